"""A service that can be cut off: a TCP relay before a server, which the network loses and finds again."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 1 << 16


class Relay:
    """Passes on what comes to ``port`` while it is open; closed, it refuses and drops connections."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.ends: set[socket.socket] = set()
        self.port = 0
        self.open()

    def open(self) -> None:
        """Listen, on the same port as before."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse from now on, and drop what is connected."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in list(self.ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.server) as server, suppress(OSError):
            other = {client: server, server: client}
            self.ends |= set(other)
            while data := _next(other):
                end, chunk = data
                other[end].sendall(chunk)
            self.ends -= set(other)


def _next(ends: dict[socket.socket, socket.socket]) -> tuple[socket.socket, bytes] | None:
    ready, _, _ = select.select([*ends], [], [])
    chunk = ready[0].recv(CHUNK)
    return (ready[0], chunk) if chunk else None


@contextmanager
def relayed(host: str, port: int) -> Iterator[Relay]:
    """A relay that is open."""
    relay = Relay(host, port)
    try:
        yield relay
    finally:
        relay.close()
