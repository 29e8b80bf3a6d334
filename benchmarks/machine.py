"""What figures were measured on."""

import os
import platform
import resource
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = (
    "apache-airflow-core", "great-expectations", "scikit-learn", "numpy", "pandas", "pyarrow", "skops", "joblib",
    "psycopg2-binary",
)  # fmt: skip


def machine() -> dict[str, str | int | float]:
    """Processor, usable cores, memory, system, Python, the packages that matter, and the date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": cores or 1,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def memory_mb(name: str) -> int:
    """This process's memory as the kernel names it: VmRSS now, VmHWM at its peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return round(int(line.split()[1]) / 1024)


def peak_mb() -> int:
    """This process's own peak of memory or, where that is larger, its children's.

    What getrusage says of a process itself counts its parent's, too.
    """
    return max(memory_mb("VmHWM"), round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
