"""Ctrl-C and SIGTERM raise in the main thread, but never in the middle of a piece of work that must be finished.

The signal state of a process is global, so this module's is too.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_depth = 0
_pending: list[int] = []


def _raise(signum: int) -> None:
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signum)


def _handle(signum: int, frame: FrameType | None) -> None:
    if _depth:
        _pending.append(signum)
    else:
        _raise(signum)


def install() -> dict[int, object]:
    """Take over the signals that ask to stop; returns the former handlers for `restore`.

    Does nothing outside the main thread, where Python allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    # A process started in the background by a non-interactive shell ignores SIGINT: leave that as it is.
    ours = [signum for signum in _SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
    return {signum: signal.signal(signum, _handle) for signum in ours}


def restore(former: dict[int, object]) -> None:
    """Give the signals back to their former handlers."""
    for signum, handler in former.items():
        signal.signal(signum, handler)  # type: ignore[arg-type]


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal is noted; it is raised on leaving."""
    global _depth  # noqa: PLW0603 (a process has one signal state)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    if _pending and not _depth:
        _raise(_pending.pop())


def forget() -> None:
    """Drop what was noted: for the end of a stop, which is what the signal asked for."""
    _pending.clear()
