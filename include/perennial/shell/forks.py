"""Forks of this process: those that we make, which do one thing, and what any fork may use.

Nothing that is connected to somebody is a fork's to use. A recipe may fork, and forget to end the
copy: it would return from the fit as its original does, write into the same connections, and keep
a lock's session open for as long as it lives.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

COPY = 70  # "internal software error" of sysexits.h
UNKNOWN = 255  # of a process whose end somebody else has seen
POLL_SECONDS = 0.01


class Fork:
    """A copy of this process that does one thing and ends.

    Any process may make one: also one that multiprocessing takes for a daemon, as the tasks of a
    Celery worker are, and for which it starts none.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._ended: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _do_and_end(work)

    @property
    def exit_code(self) -> int | None:
        """The code it ended with, negative for the number of a signal; None while it runs."""
        if self._ended is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._ended = UNKNOWN
            else:
                self._ended = os.waitstatus_to_exitcode(status) if pid else None
        return self._ended

    def join(self, seconds: float = float("inf")) -> int | None:
        """Wait for its end, at most so long; returns its exit code."""
        deadline = time.monotonic() + seconds
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return self._ended

    def kill(self) -> int | None:
        """End it where it has not ended; returns its exit code."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.join()


def _do_and_end(work: Callable[[], object]) -> NoReturn:
    """Do the work of a fork; nothing of what its original would still do is done in it."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Connected(Protocol):
    """Anything that reads and writes through a file descriptor."""

    def fileno(self) -> int:
        """Its descriptor. Raises OSError or the library's own error once it is closed."""
        ...


_connected: WeakSet[Any] = WeakSet()


def keep_from_forks(connected: Connected) -> None:
    """In every later fork of this process, lead the descriptor nowhere."""
    _connected.add(connected)


def end_unless(owner: int) -> None:
    """End this process at once, with a word on standard error, unless its id is ``owner``."""
    if os.getpid() == owner:
        return

    message = f"A fork of process {owner} went on with its work, and was ended: end forks of a recipe with os._exit().\n"
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message.encode())
    os._exit(COPY)


@contextmanager
def original_only() -> Iterator[None]:
    """Only the process that came in leaves; a fork of it that would leave, too, ends instead."""
    owner = os.getpid()
    try:
        yield
    finally:
        end_unless(owner)


def _lead_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for connected in list(_connected):
            descriptor = _descriptor(connected)
            if descriptor is not None:
                os.dup2(nowhere, descriptor)
    finally:
        os.close(nowhere)
        _connected.clear()


def _descriptor(connected: Connected) -> int | None:
    try:
        return connected.fileno()
    except Exception:  # each library has an error of its own for what is closed
        return None


os.register_at_fork(after_in_child=_lead_nowhere)
