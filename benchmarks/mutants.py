"""Which small faults the unit tests let pass: each module of ``core`` that decides, mutated place by place.

``make mutants`` or ``make mutants MODULES=spans``: works on a copy of the repository, prints every survivor as a diff, and ends
with 1 where the tests find less than LEAST of a module's mutants.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = ("comparison", "spans", "training", "snapshots")
COPIED = ("include", "plugins", "tests", "pyproject.toml")
LEAST = 90.0
SECONDS = 120.0
CONFIG = """
[cosmic-ray]
module-path = "include/perennial/core/{module}.py"
timeout = {seconds}
excluded-modules = []
test-command = "{python} -m pytest -x -p no:cacheprovider {tests}"

[cosmic-ray.distributor]
name = "local"
"""


def main(tools: Path, modules: list[str]) -> int:
    """Mutate the modules one after the other; the exit code."""
    with tempfile.TemporaryDirectory(prefix="perennial-mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        found = {module: killed(tools, copy, module) for module in modules}
    for module, share in found.items():
        print(f"{module}: the unit tests find {share:.1f} % of the mutants")
    return int(min(found.values()) < LEAST)


def killed(tools: Path, copy: Path, module: str) -> float:
    """How many percent of a module's mutants the unit tests that import it find; the others are printed."""
    config, session = copy / f"{module}.toml", copy / f"{module}.sqlite"
    tests = " ".join(str(file.relative_to(copy)) for file in tests_of(copy, module))
    config.write_text(CONFIG.format(module=module, seconds=SECONDS, python=sys.executable, tests=tests))
    run(copy, tools / "cosmic-ray", "baseline", config)
    run(copy, tools / "cosmic-ray", "init", config, session)
    run(copy, tools / "cosmic-ray", "exec", config, session)
    print(run(copy, tools / "cr-report", "--surviving-only", "--show-diff", session))
    return 100 - float(run(copy, tools / "cr-rate", session))


def tests_of(copy: Path, module: str) -> list[Path]:
    """The unit tests that import a module of ``core``."""
    name = f"perennial.core.{module} "
    return sorted(file for file in (copy / "tests/unit").glob("test_*.py") if name in file.read_text())


def run(copy: Path, *command: object) -> str:
    """What a tool prints; ends with its words where it fails."""
    path = os.pathsep.join(str(copy / name) for name in ("include", "plugins"))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    words = [str(part) for part in command]
    ended = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    return ended.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or list(MODULES)))
