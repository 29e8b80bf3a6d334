"""What a set of processes costs: CPU seconds and memory, read from /proc.

CPU is exact where parents reap their children, as all of these do: what a tree of processes has used is what its living
members and the children they have reaped have used (fields utime, stime, cutime, cstime), so the difference of two readings
is the cost between them. Memory is sampled: the sum of proportional set sizes (PSS: shared pages are divided among those who
share them), and the peak of what each process has of its own.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

TICKS = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    parents: dict[int, list[int]] = {}
    for pid in psutil.pids():
        with suppress(OSError, IndexError):
            parents.setdefault(int(_stat(pid)[1]), []).append(pid)
    found, open_ones = [], list(roots)
    while open_ones:
        pid = open_ones.pop()
        found.append(pid)
        open_ones += parents.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int], reaped: bool = True) -> float:
    """CPU these processes have used, by default with the children they have reaped."""
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            total += sum(int(ticks) for ticks in _stat(pid)[11 : 15 if reaped else 13])
    return total / TICKS


def _stat(pid: int) -> list[str]:
    """The fields of a process's stat after its name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _memory(pid: int) -> tuple[float, float, float, float]:
    """PSS, RSS, what of RSS is no file's (a library's pages are), and the peak of that since the process began, in MB."""
    pss = int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0])
    status = Path(f"/proc/{pid}/status").read_text()
    rss, own, peak = (int(status.split(f"\n{name}:")[1].split()[0]) for name in ("VmRSS", "RssAnon", "VmHWM"))
    return pss / 1024, rss / 1024, own / 1024, (peak - (rss - own)) / 1024


def machine_cpu_seconds() -> float:
    """CPU seconds that anybody has used on this machine since it started, or that its host kept for others."""
    fields = dict(zip(("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"), _cpu_line(), strict=False))
    return sum(ticks for name, ticks in fields.items() if name not in ("idle", "iowait")) / TICKS


def _cpu_line() -> list[int]:
    return [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


@dataclass
class Seen:
    """One process: the memory of its own when first seen and at its peak until last seen, its CPU when last seen."""

    parent: int
    first_mb: float
    peak_mb: float = 0.0
    cpu: float = 0.0


@dataclass
class Watch:
    """Samples a changing set of processes from inside a `with`: their memory, in between their CPU; and the machine's CPU."""

    pids: Callable[[], Iterable[int]]
    memory_every: float = 10.0  # seconds: a look at two dozen processes costs 0.1 s of CPU
    cpu_every: float = 1.0
    peak_pss: float = 0.0
    peak_rss_sum: float = 0.0
    own_cpu: float = 0.0
    machine_cpu: float = 0.0
    seen: dict[int, Seen] = field(default_factory=dict)

    def __enter__(self) -> "Watch":
        self._over = threading.Event()
        self._started = machine_cpu_seconds()
        self._thread = threading.Thread(target=self._sample_all, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.machine_cpu = machine_cpu_seconds() - self._started
        self._over.set()
        self._thread.join()

    def account(self) -> dict[str, float]:
        """What is kept of the watch: MB at the peak, its own CPU seconds, and everybody's."""
        return {
            "peak_pss": self.peak_pss, "peak_rss_sum": self.peak_rss_sum, "watch_cpu": self.own_cpu,
            "machine_cpu": self.machine_cpu,
        }  # fmt: skip

    def _sample_all(self) -> None:
        looked_at = time.monotonic()
        while not self._over.wait(self.cpu_every):
            if time.monotonic() - looked_at >= self.memory_every:
                looked_at = time.monotonic()
                self._sample()
            self._sample_cpu()
        self.own_cpu = time.thread_time()

    def _sample_cpu(self) -> None:
        for pid, seen in self.seen.items():
            seen.cpu = max(seen.cpu, cpu_seconds([pid], reaped=False))

    def _sample(self) -> None:
        sums = [0.0, 0.0]
        for pid in self.pids():
            with suppress(OSError, IndexError):
                pss, rss, own, peak = _memory(pid)
                seen = self.seen.setdefault(pid, Seen(parent=int(_stat(pid)[1]), first_mb=own))
                seen.peak_mb = peak
                sums = [sums[0] + pss, sums[1] + rss]
        self.peak_pss, self.peak_rss_sum = max(self.peak_pss, sums[0]), max(self.peak_rss_sum, sums[1])
