"""Tell: one message to each owner of what a run came to, delivered now or by the next reports of its fleet or source."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from perennial.catalog import Catalog, FleetSpecs
from perennial.core.messages import Loss, Message, Result, messages_of, messages_of_losses, owners_of
from perennial.errors import AddressError, RegistryLost, Undelivered
from perennial.resources import MailRelay, Post, Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction
from perennial.shell.delivery import Place, places_of, send
from perennial.spec import Owner

logger = logging.getLogger(__name__)

PAUSES_SECONDS = (0, 1, 3)
PATIENCE_SECONDS = 60
ENDED_EARLY = (
    "Telling the owners of run %s ended early. The run is unaffected; what perennial.messages holds goes out with the "
    "fleet's next report."
)


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who is notified by whose runs. ``scope``: a fleet's name, or ``source/`` and a source's; owners by name."""

    scope: str
    owners: dict[str, Owner]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How a delivery went: where the message is by now, how often it was tried, and why it is not everywhere."""

    reached: list[str]
    tries: int
    error: str


def tell(resources: Resources, catalog: Catalog, fleet_name: str, result: Result) -> None:
    """Write down what each owner is told of a run, and deliver all that waits in the fleet.

    Raises RegistryLost when the registry goes away, so that a retry goes on, and nothing else. A message is sent by one
    report at a time and, once sent, never again. A crash after a server has taken it and before its row says so repeats it:
    at least once then. What cannot be delivered waits for the fleet's next reports, for a day.
    """
    try:
        _tell(resources, catalog.fleet(fleet_name), result.run_id, lambda specs: messages_of(specs, result))
    except RegistryLost:
        raise
    except Exception:
        logger.exception(ENDED_EARLY, result.run_id)


def tell_of_losses(resources: Resources, catalog: Catalog, fleet_name: str, losses: list[Loss], occasion: str) -> None:
    """Tell owners at once of champions that cannot be read, each once per occasion: a run, or a day. Never raises."""
    told = f"{occasion}/champions"
    try:
        _tell(resources, catalog.fleet(fleet_name), told, lambda specs: messages_of_losses(specs, losses))
    except Exception:
        logger.exception(ENDED_EARLY, told)


def _tell(resources: Resources, specs: FleetSpecs, run_id: str, messages: Callable[[FleetSpecs], list[Message]]) -> None:
    audience = Audience(scope=specs.fleet.name, owners=owners_of(specs))
    with closing(connect(resources.database)) as database:
        for message in messages(specs):
            write_down(database, audience, run_id, message)
        deliver_waiting(resources.post, database, audience, run_id)


def write_down(database: Connection, audience: Audience, run_id: str, message: Message) -> None:
    """Record a message, once for each owner and run."""
    state = "pending" if audience.owners[message.owner].alerts else "nobody to tell"
    facts = {"run_id": run_id, "scope": audience.scope, "state": state, **asdict(message)}
    if run(database, "add_message", **facts) and state != "pending":
        logger.warning("Nobody to tell: %s has no alerts in its specs. %s", message.owner, message.subject)


def deliver_waiting(post: Post, database: Connection, audience: Audience, run_id: str) -> None:
    """Deliver until nothing is left or patience ends; an owner who cannot be reached is tried with one message only."""
    waiting = fetch(database, "waiting_messages", scope=audience.scope, run_id=run_id)
    relay = post.mail() if waiting else None
    owners, unreachable = audience.owners, set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for row in waiting:
        if row.owner not in unreachable and time.monotonic() < deadline:
            alerts = owners[row.owner].alerts if row.owner in owners else ()
            if not _deliver(database, row, alerts, relay):
                unreachable.add(row.owner)
    for row in fetch(database, "give_up_messages", scope=audience.scope):
        logger.warning("Gave up telling %s of run %s after a day: %s", row.owner, row.run_id, row.error)


def _deliver(database: Connection, waiting: Any, alerts: Iterable[str], relay: MailRelay | None) -> bool:
    """Deliver one message, unless another report is at it or has done it; False when it still waits."""
    with transaction(database):
        message = fetch_one(database, "claim_message", run_id=waiting.run_id, owner=waiting.owner)
        if message is None:
            return True
        made = _send(places_of(alerts), relay, message)
        is_delivered = bool(made.reached) and not made.error
        run(
            database, "record_delivery", run_id=message.run_id, owner=message.owner, delivered=is_delivered, **asdict(made)
        )  # fmt: skip
    if is_delivered:
        logger.info("Told %s of run %s: %s", message.owner, message.run_id, ", ".join(made.reached))
    else:
        logger.warning(
            "Could not tell %s of run %s, the next report tries again: %s", message.owner, message.run_id, made.error
        )
    return is_delivered


def _send(places: list[Place], relay: MailRelay | None, message: Any) -> Delivery:
    """Try every place that the message has not reached, with growing pauses; an address that cannot be used only once."""
    reached, tries = list(message.reached), 0
    errors: dict[str, str] = {} if places else {"nowhere": "The owner has no address any more."}
    left = [place for place in places if place.name not in reached]
    for pause in PAUSES_SECONDS:
        if left:
            time.sleep(pause)
            tries += 1
        again = []
        for place in left:
            errors.pop(place.name, None)
            try:
                send(place, relay, message.subject, message.body)
                reached.append(place.name)
            except (AddressError, Undelivered) as error:
                errors[place.name] = str(error)
                again += [place] if isinstance(error, Undelivered) else []
        left = again
    return Delivery(reached=reached, tries=tries, error="; ".join(f"{name}: {why}" for name, why in errors.items()))
