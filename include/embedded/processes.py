"""Child processes that never outlive their state folder's owner for long.

Each child leads a session of its own and is recorded on disk before anything else may happen, so that whoever comes next
can find and end all that is left of it: Airflow's tasks change their process group, but not their session. A process is
known by its number *and* its birth, so a recycled number is never mistaken for it.
"""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from embedded import signals
from embedded.errors import ChildFailed, StateInUse

TAIL_LINES = 20


@dataclass(frozen=True)
class Record:
    """A child as it was started: its session has its pid as number."""

    name: str
    pid: int
    birth: float
    boot: str


class Lock:
    """One owner at a time for a state folder; the kernel frees it when the owner dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises StateInUse, naming the pid of the owner."""
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StateInUse(
                f"{self.path.parent} is in use by process {self.holder() or '(unknown)'}: "
                "stop it with `make stop`, or choose another folder with PERENNIAL_STATE"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    def release(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def holder(self) -> int | None:
        """The pid in the lock file: the owner while the lock is held, else the last one."""
        try:
            return int(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return None


class Processes:
    """The children of one state folder: records in `folder`, logs in `logs`."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder = folder
        self.logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """Start a child in its own session and record it; returns its pid."""
        with signals.deferred(), fresh_log(self.log(name)) as log:
            child = subprocess.Popen(
                argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            self._children[name] = child
            write_json(self._record_file(name), asdict(Record(name, child.pid, birth(child.pid), boot_id())))
        return child.pid

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Run a child to its end. Raises ChildFailed with the last lines of its log."""
        self.start(name, argv, env)
        code = self._children[name].wait()
        self.end([name])
        if code:
            raise ChildFailed(self.obituary(name, code))

    def check(self) -> None:
        """Raises ChildFailed when a child has ended that nobody asked to."""
        for name, child in self._children.items():
            if (code := child.poll()) is not None:
                raise ChildFailed(self.obituary(name, code))

    def obituary(self, name: str, code: int) -> str:
        """What happened to a child: exit code, where its log is, and the end of it."""
        return f"{name} ended with code {code}, see {self.log(name)}; its last lines:\n{tail(self.log(name))}"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def names(self) -> list[str]:
        """The recorded children, alive or not."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def end(self, names: Sequence[str], timeout_seconds: float = 15) -> list[str]:
        """End the sessions of these children: SIGTERM, then SIGKILL for whoever is left. Returns those that were alive."""
        records = [record for name in names if (record := self._read(name))]
        alive = [record.name for record in records if members(record)]
        if not _await_end(records, signal.SIGTERM, timeout_seconds):
            _await_end(records, signal.SIGKILL, timeout_seconds)
        for name in names:
            self._forget(name)
        return alive

    def stop(self, timeout_seconds: float = 15) -> list[str]:
        """End every recorded child, whoever started it; returns the names of those that were alive."""
        return self.end(self.names(), timeout_seconds)

    def sweep(self) -> list[str]:
        """At a start: end what a crashed former run has left; what crashed needs no long farewell."""
        return self.stop(timeout_seconds=3)

    def _record_file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, name: str) -> Record | None:
        try:
            return Record(**json.loads(self._record_file(name).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _forget(self, name: str) -> None:
        if child := self._children.pop(name, None):
            child.poll()
        self._record_file(name).unlink(missing_ok=True)


def members(record: Record) -> list[int]:
    """The living processes of a recorded session, also when its leader is dead.

    Empty when the session's number belongs to somebody else by now: after a reboot, or when its leader was born at another
    time.
    """
    if record.boot != boot_id() or (_is_alive(record.pid) and birth(record.pid) != record.birth):
        return []
    return [pid for pid in psutil.pids() if _session(pid) == record.pid and _is_alive(pid) and birth(pid) >= record.birth]


def birth(pid: int) -> float:
    """A number that grows with the time a process started; infinite when it is gone.

    On Linux ticks since boot: psutil's time of day moves whenever somebody sets the clock.
    """
    try:
        if psutil.LINUX:
            return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return float(psutil.Process(pid).create_time())
    except (OSError, psutil.Error):
        return float("inf")


def boot_id() -> str:
    """Tells one boot of this machine from the next; where the kernel has no such id, births are times of day and need none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, empty when there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def fresh_log(path: Path) -> IO[bytes]:
    """Open a log anew; the former run's is kept beside it as `.log.1`."""
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    return path.open("wb")


def write_json(path: Path, content: Any, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    write_whole(path, json.dumps(content, indent=2).encode(), mode)


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all, with this mode from its first byte on."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    new.replace(path)


def _await_end(records: Sequence[Record], signum: int, timeout_seconds: float) -> bool:
    """Signal every living member, once each, until none is left or the time is over."""
    told: set[int] = set()
    deadline = time.monotonic() + timeout_seconds
    while left := {pid for record in records for pid in members(record)}:
        for pid in left - told:
            _signal(pid, signum)
        told |= left
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _signal(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _is_alive(pid: int) -> bool:
    """A zombie is not alive: in a container whose first process reaps nobody it would be waited for in vain."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
