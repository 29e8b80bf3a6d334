"""A post office for tests: a real SMTP server."""

import email.policy
import socket
from contextlib import closing
from email.message import EmailMessage

from aiosmtpd.controller import Controller

from perennial.resources import MailRelay


class PostOffice:
    """A real SMTP server on a port of its own; ``letters`` are what it took."""

    def __init__(self):
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.letters = []
        self.refused = set()
        self.controller = None

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        letter = email.message_from_bytes(envelope.content, EmailMessage, policy=email.policy.default)
        self.letters.append((envelope.rcpt_tos[0], letter["Subject"], letter.get_content()))
        return "250 OK"

    def open(self):
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def close(self):
        if self.controller:
            self.controller.stop()
            self.controller = None

    def relay(self):
        return MailRelay(host="127.0.0.1", port=self.port, sender="perennial@example.com", security="none")

    @property
    def recipients(self):
        return [recipient for recipient, _, _ in self.letters]
