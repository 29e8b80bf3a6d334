"""Delivery: what Apprise can reach, mail through the deployment's relay.

Addresses may hold tokens. A place's ``name`` may be shown; its ``address``, and what Apprise logs, may not.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from perennial.errors import AddressError, Undelivered
from perennial.resources import MailRelay

ANSWER_SECONDS = 20
MODES = {"none": "insecure"}
SILENCE = logging.NullHandler()
NO_RELAY = "No mail relay. Add the connection perennial_mail: host, port, login, password, extra from and security."
BAD_RELAY = (
    "The connection perennial_mail cannot be used. It needs a host, an e-mail address as extra from, and ssl, starttls or "
    "none as extra security."
)
UNREADABLE = "Apprise cannot read this address. `make check-models` names its line."
SOCKET = "Socket Exception: "


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a message goes to: a mailbox behind the relay, or an address that Apprise takes as it is."""

    name: str
    address: str = field(repr=False)
    needs_relay: bool


def is_readable(address: str) -> bool:
    """Whether Apprise understands an address."""
    with _discretion():
        return _read(address) is not None


def places_of(alerts: Iterable[str]) -> list[Place]:
    """Every place of an owner's addresses; each recipient of mail without a password in its address is one."""
    with _discretion():
        found = [place for address in alerts for place in _places(address)]
    places: dict[str, Place] = {}
    numbers: Counter[str] = Counter()
    for place in dict.fromkeys(found):
        numbers[place.name] += 1
        name = place.name if numbers[place.name] == 1 else f"{place.name} ({numbers[place.name]})"
        places[name] = Place(name=name, address=place.address, needs_relay=place.needs_relay)
    return list(places.values())


def send(place: Place, relay: MailRelay | None, subject: str, body: str) -> None:
    """Send plain text to a place.

    Raises AddressError when trying again cannot help, Undelivered when the place did not take the message.
    """
    from apprise import Apprise, NotifyFormat

    with _discretion():
        service = _service(place, relay)
        sender = Apprise(service, asset=service.asset)
        with sender.notify(body=body, title=subject, body_format=NotifyFormat.TEXT, log_level=logging.DEBUG) as result:
            if not result:
                raise Undelivered(_without_secrets(_why(result, place), place, relay))


def _places(address: str) -> list[Place]:
    from apprise.plugins.email import NotifyEmail

    service = _read(address)
    if not isinstance(service, NotifyEmail) or service.password:
        scheme = re.match(r"[\w+.-]+(?=://)", address)
        return [Place(name=f"{scheme.group() if scheme else 'address'}://…", address=address, needs_relay=False)]
    recipients = [*(mailbox for _, mailbox in service.targets), *sorted(service.cc | service.bcc)]
    return [Place(name=mailbox, address=mailbox, needs_relay=True) for mailbox in recipients]


def _service(place: Place, relay: MailRelay | None) -> Any:
    if place.needs_relay and relay is None:
        raise AddressError(NO_RELAY)
    service = _read(_through(relay, place.address) if place.needs_relay and relay else place.address)
    if place.needs_relay and (service is None or not service.smtp_host):
        raise AddressError(BAD_RELAY)
    if service is None:
        raise AddressError(UNREADABLE)
    return service


def _through(relay: MailRelay, mailbox: str) -> dict[str, Any]:
    """What Apprise makes of a ``mailto://`` URL with ``to=``; given as a dictionary nothing needs to be quoted."""
    sender = relay.sender or (relay.login if "@" in relay.login else "")
    return {
        "schema": "mailto", "host": relay.host, "smtp_host": relay.host, "port": relay.port, "user": relay.login or None,
        "password": relay.password or None, "secure_mode": MODES.get(relay.security, relay.security), "from_addr": sender,
        "targets": [mailbox],
    }  # fmt: skip


def _read(address: str | dict[str, Any]) -> Any:
    """Apprise's service of an address, or None. What is too long for a service is cut, unless the address says otherwise."""
    from apprise import Apprise, AppriseAsset, OverflowMode

    asset = AppriseAsset(app_id="Perennial", app_desc="Perennial", async_mode=False, service_timeout=ANSWER_SECONDS)
    service = Apprise.instantiate(address, asset=asset)
    if service is not None and "overflow=" not in address:
        service.overflow_mode = OverflowMode.TRUNCATE
    return service


def _why(result: Any, place: Place) -> str:
    from apprise import AppriseResultStatus

    if result.status == AppriseResultStatus.TIMEOUT:
        return f"No answer within {ANSWER_SECONDS} s."
    told = [entry.message for entry in result.logs() if entry.level in ("WARNING", "ERROR", "CRITICAL")]
    if place.needs_relay:
        told += [entry.message for entry in result.logs() if entry.message.startswith(SOCKET)]
    return ". ".join(message.removeprefix(SOCKET).rstrip(".") for message in told) or "Apprise gives no reason"


def _without_secrets(text: str, place: Place, relay: MailRelay | None) -> str:
    """The text without the relay's password, and without any part of an address that Apprise takes as it is."""
    secrets = {relay.password} if relay and relay.password else set()
    if not place.needs_relay:
        rest = place.address.partition("://")[2]
        secrets |= {part for form in (rest, unquote(rest)) for part in re.split(r"[/:@?&=#,]", form) if len(part) > 3}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


@contextmanager
def _discretion() -> Iterator[None]:
    """Keep what Apprise and urllib3 log out of our logs, and within Apprise's reach: it names addresses with their tokens."""
    apprise, wire = logging.getLogger("apprise"), logging.getLogger("urllib3")
    before = apprise.propagate, apprise.level, wire.level
    apprise.addHandler(SILENCE)
    apprise.propagate = False
    apprise.setLevel(logging.DEBUG)
    wire.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        apprise.propagate = before[0]
        apprise.setLevel(before[1])
        wire.setLevel(before[2])
