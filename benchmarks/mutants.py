"""Which small faults the unit tests let pass: each module of ``core`` that decides, mutated place by place.

``make mutants`` or ``make mutants MODULES=spans``: works on a copy of the repository, prints every survivor as a diff, and ends
with 1 where the tests find less than LEAST of a module's mutants.

Most of a run of a few unit tests goes into importing libraries. So one process imports them, and forks for every mutant.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = ("comparison", "spans", "training", "snapshots")
COPIED = ("include", "plugins", "tests", "pyproject.toml")
LEAST = 90.0
SECONDS = 60.0
SOCKET = "tests.sock"
ASK, SERVE = "--ask", "--serve"
CONFIG = """
[cosmic-ray]
module-path = "include/perennial/core/{module}.py"
timeout = {seconds}
excluded-modules = []
test-command = "{python} -S {script} {ask}"

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
    script = Path(__file__).resolve()
    config.write_text(CONFIG.format(module=module, seconds=SECONDS, python=sys.executable, script=script, ask=ASK))
    with served(copy, tests_of(copy, module)):
        run(copy, tools / "cosmic-ray", "baseline", config)
        run(copy, tools / "cosmic-ray", "init", config, session)
        run(copy, tools / "cosmic-ray", "exec", config, session)
    print(run(copy, tools / "cr-report", "--surviving-only", "--show-diff", session))
    return 100 - float(run(copy, tools / "cr-rate", session))


@contextmanager
def served(copy: Path, tests: list[Path]) -> Iterator[None]:
    """Inside, a process runs the tests for whoever asks by the socket in the copy."""
    names = [str(file.relative_to(copy)) for file in tests]
    command = [sys.executable, str(Path(__file__).resolve()), SERVE, *names]
    server = subprocess.Popen(command, cwd=copy, env=environment_of(copy))
    try:
        while not (copy / SOCKET).exists():
            if server.poll() is not None:
                raise SystemExit(f"The process that runs the tests ended with {server.returncode}.")
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()
        (copy / SOCKET).unlink(missing_ok=True)


def serve(tests: list[str]) -> None:
    """Import the libraries, and run the tests in a fork for each who asks."""
    import pandas  # noqa: F401 - so that forks have it
    import pytest
    import scipy.stats  # noqa: F401
    import sklearn.pipeline  # noqa: F401

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        while True:
            asking, _ = listener.accept()
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
            with asking, suppress(BrokenPipeError):  # whoever asked may have gone
                asking.sendall(bytes([code_of(child, asking)]))


def code_of(child: int, asking: socket.socket) -> int:
    """How a fork ended: its exit code, 1 where a signal or, once nobody waits for it, this process ended it."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return max(os.waitstatus_to_exitcode(status), 0) or int(os.WIFSIGNALED(status))
        if select.select([asking], [], [], 0.02)[0]:  # whoever asked has gone
            os.kill(child, signal.SIGKILL)


def ask() -> int:
    """Have the tests run; how they ended."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(SOCKET)
        return server.recv(1)[0]


def tests_of(copy: Path, module: str) -> list[Path]:
    """The unit tests that import a module of ``core``."""
    name = f"perennial.core.{module} "
    return sorted(file for file in (copy / "tests/unit").glob("test_*.py") if name in file.read_text())


def environment_of(copy: Path) -> dict[str, str]:
    """The environment of whatever runs in the copy."""
    path = os.pathsep.join(str(copy / name) for name in ("include", "plugins"))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def run(copy: Path, *command: object) -> str:
    """What a tool prints; ends with its words where it fails."""
    words = [str(part) for part in command]
    ended = subprocess.run(words, cwd=copy, env=environment_of(copy), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    return ended.stdout.strip()


if __name__ == "__main__":
    match sys.argv[1:]:
        case [verb] if verb == ASK:
            sys.exit(ask())
        case [verb, *files] if verb == SERVE:
            serve(files)
        case [folder, *modules]:
            sys.exit(main(Path(folder), modules or list(MODULES)))
