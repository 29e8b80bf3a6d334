"""TCP ports of this machine, each of which one stack has at a time.

Many seconds lie between the choice of a port and the moment when a component listens on it. From the choice until the stack
ends, the UDP port of the same number stands for it, on which no component listens: nobody else can bind that, whoever he is,
and the kernel frees it when its owner dies.
"""

import socket
from collections.abc import Iterable

from embedded.errors import PortInUse

LOCALHOST = "127.0.0.1"
TRIES = 100


class Ports:
    """The ports of one stack."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def hold(self, port: int) -> bool:
        """Take a port, unless somebody has it or listens on it, or this stack has it already."""
        mark = socket.socket(type=socket.SOCK_DGRAM)
        try:
            mark.bind((LOCALHOST, port))
        except OSError:
            mark.close()
            return False
        if not _is_free(port):
            mark.close()
            return False
        self._held[port] = mark
        return True

    def hold_one(self, candidates: Iterable[int]) -> int:
        """The first of these ports that can be had, or another one. Raises PortInUse where none can."""
        for port in candidates:
            if self.hold(port):
                return port
        for _ in range(TRIES):
            if self.hold(port := _any_free_port()):
                return port
        raise PortInUse(f"No port is free: {TRIES} were tried. See what listens on this machine.")

    def release(self) -> None:
        """Give all of them free."""
        while self._held:
            self._held.popitem()[1].close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return int(probe.getsockname()[1])
