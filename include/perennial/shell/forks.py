"""What a fork of this process may use: nothing that is connected to somebody.

A recipe may fork, and forget to end the copy: it would return from the fit as its original does,
write into the same connections, and keep a lock's session open for as long as it lives.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakSet

COPY = 70  # "internal software error" of sysexits.h


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
