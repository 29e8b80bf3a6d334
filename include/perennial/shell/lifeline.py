"""A process that works under a lock must not outlive the session that holds it."""

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LOST = 75  # "temporary failure" of sysexits.h


@contextmanager
def lifeline(peer: int, meaning: str) -> Iterator[None]:
    """Inside, the process ends at once when the other side of a socket or pipe goes away, whatever it is doing.

    Only code that never gives up the interpreter's lock can delay that. ``meaning`` is its last word on standard error.
    """
    stop, stopping = os.pipe()
    watch = threading.Thread(target=_watch, args=(peer, stop, meaning), name="lifeline", daemon=True)
    watch.start()
    try:
        yield
    finally:
        os.write(stopping, b".")
        watch.join()
        os.close(stop)
        os.close(stopping)


def _watch(peer: int, stop: int, meaning: str) -> None:
    poll = select.poll()
    poll.register(peer, getattr(select, "POLLRDHUP", 0))  # hang-ups are reported unasked where a half-closed peer is not
    poll.register(stop, select.POLLIN)
    if peer in dict(poll.poll()):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{meaning}\n".encode())
        os._exit(LOST)
