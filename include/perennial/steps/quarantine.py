"""Quarantine: what a person decides about a batch after the fact. Each decision is kept with the person and the reason.

Rows that were rejected come in again by themselves once they are mended at their source: a mended row is a new change.
Deciding the same again, as a task that is run again does, changes nothing and gives the same answer.
"""

import logging
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from perennial.cell import Cell
from perennial.decision import ACCEPT, EXTRACT, LOOK, RETRACT, VALIDATE, Decision
from perennial.errors import NothingToDo, RequestError
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction
from perennial.spec import UNKNOWN_COUNTRY, Source
from perennial.steps import ingest
from perennial.steps.decisions import batch_of, name_of, note, short_name
from perennial.steps.held import look
from perennial.steps.replacing import assign_anew, extract_anew
from perennial.steps.validate import decide

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tainted:
    """A version that was trained on a retracted batch; ``is_champion``: it is in force."""

    cell: Cell
    version: str
    is_champion: bool


def carry_out(resources: Resources, source: Source, decision: Decision) -> dict[str, Any]:
    """Do what a person asks for; returns in small what came of it. Raises RequestError and NothingToDo."""
    decision.check(source)
    said = {"person": decision.person, "reason": decision.reason}
    if decision.action == LOOK:
        return look(resources, source, decision.country, decision.seq)
    if decision.action == VALIDATE:
        return validate_again(resources, source, country=decision.country, seq=decision.seq, **said)
    country, seq = decision.batch
    if decision.action == ACCEPT:
        accept_batch(resources, source.name, country, seq, **said)
        return {"accepted": [f"{country} {seq}"]}
    if decision.action == EXTRACT:
        return extract_again(resources, source, country, seq, **said)
    tainted = retract_batch(resources, source.name, country, seq, **said)
    for each in tainted:
        logger.warning("Trained on it: %s version %s%s", each.cell, each.version, ", the champion" if each.is_champion else "")
    return {"retracted": [f"{country} {seq}"], "versions": [{**asdict(each), "cell": str(each.cell)} for each in tainted]}


def announce(resources: Resources, source: Source, action: str) -> list[str]:
    """What is accepted since the last wake-up call. Raises NothingToDo where no fleet need be woken.

    A retraction wakes them, too, though there is nothing new to read.
    """
    if action == LOOK:
        raise NothingToDo("Looking changes nothing.")
    try:
        return ingest.announce(resources, source)
    except NothingToDo:
        if action != RETRACT:
            raise
        return []


def accept_batch(resources: Resources, source: str, country: str, seq: int, person: str, reason: str) -> None:
    """Accept a batch that was kept aside, without its rejected rows; the cells it concerns become due.

    Raises RequestError for a batch that is not kept aside, whose rows were all rejected, or whose validation did not run.
    """
    _check_said(person, reason)
    with closing(connect(resources.database)) as database:
        batch = batch_of(database, source, country, seq)
        if _is_done(database, batch, "accepted", "accept", person, reason):
            return
        _check_state(batch, "quarantined")
        _check_acceptable(batch)
        with transaction(database):
            said = f"Accepted by {person}: {reason}. It was kept aside for: {batch.reason}"
            if run(database, "accept_batch", source=source, country=country, seq=seq, reason=said) != 1:
                raise RequestError(f"Batch {name_of(batch)} was decided by somebody else meanwhile. Look again.")
            note(database, batch, "accept", person, reason)
    logger.info("%s accepted by %s: %s", name_of(batch), person, reason)


def retract_batch(resources: Resources, source: str, country: str, seq: int, person: str, reason: str) -> list[Tainted]:
    """Take an accepted batch back: nothing reads it any more. Returns the versions trained on it, champions first; their
    cells become due. Raises RequestError for a batch that is not accepted.
    """
    _check_said(person, reason)
    with closing(connect(resources.database)) as database:
        batch = batch_of(database, source, country, seq)
        is_done = _is_done(database, batch, "retracted", "retract", person, reason)
        if not is_done:
            _check_state(batch, "accepted")
        with transaction(database):
            said = f"Retracted by {person}: {reason}"
            if not is_done and run(database, "retract_batch", source=source, country=country, seq=seq, reason=said) != 1:
                raise RequestError(f"Batch {name_of(batch)} was decided by somebody else meanwhile. Look again.")
            trained = fetch(database, "versions_trained_on", source=source, country=country, seq=seq)
            if not is_done:
                note(database, batch, "retract", person, reason, [row.id for row in trained])
    logger.warning("%s retracted by %s: %s. %s versions were trained on it", name_of(batch), person, reason, len(trained))
    return [
        Tainted(cell=Cell(row.model, row.country), version=row.id, is_champion=row.is_champion) for row in trained
    ]  # fmt: skip


def validate_again(
    resources: Resources, source: Source, person: str, reason: str, country: str | None = None, seq: int | None = None
) -> dict[str, Any]:
    """Validate batches that were kept aside by today's spec, of one country or number or all; returns which are now
    accepted and which stay. For after the spec was mended, or a validation could not run. Raises NothingToDo.

    Rows of countries that were unknown are given to those that the spec knows by now, and rows that
    could not be read are tried once more.
    """
    _check_said(person, reason)
    with closing(connect(resources.database)) as database:
        held, anew = fetch(database, "held_batches", source=source.name, country=country, seq=seq), []
        if not held:
            raise NothingToDo(f"Source {source.name} has no such batch in quarantine.")
        for batch in held:
            may_know_more = batch.country == UNKNOWN_COUNTRY or batch.unreadable_rows
            made = assign_anew(resources, source, batch, person, reason) if may_know_more else []
            if not made:
                note(database, batch, "validate again", person, reason)
            anew += made or [batch]
        return _validated(resources, database, source, anew)


def extract_again(resources: Resources, source: Source, country: str, seq: int, person: str, reason: str) -> dict[str, Any]:
    """Read a held or retracted batch's interval from its table once more, and validate what comes; returns which batches
    replace it, and which of them are held. Raises RequestError as ``extract_anew`` does.
    """
    _check_said(person, reason)
    with closing(connect(resources.database)) as database:
        batch = batch_of(database, source.name, country, seq)
        if batch.replaced_by and _is_done(database, batch, "retracted", "extract again", person, reason):
            return {"replaced by": batch.replaced_by}
        made = extract_anew(resources, source, country, seq, person, reason)
        return {"replaced by": ", ".join(short_name(each) for each in made), **_validated(resources, database, source, made)}


def _validated(resources: Resources, database: Connection, source: Source, batches: list[Any]) -> dict[str, list[str]]:
    decide(resources, source, batches)
    now = [fetch_one(database, "batch_of", source=each.source, country=each.country, seq=each.seq) for each in batches]
    return {state: [short_name(each) for each in now if each.state == state] for state in ("accepted", "quarantined")}


def _check_said(person: str, reason: str) -> None:
    if not person.strip() or not reason.strip():
        raise RequestError("A decision about a batch needs a person and a reason: whoever reads the ledger will ask.")


def _is_done(database: Connection, batch: Any, state: str, decision: str, person: str, reason: str) -> bool:
    """Whether this very decision was the last one about the batch, and it stands."""
    last = fetch_one(database, "last_decision", source=batch.source, country=batch.country, seq=batch.seq)
    return batch.state == state and last is not None and tuple(last) == (decision, person, reason)


def _check_state(batch: Any, state: str) -> None:
    if batch.state != state:
        raise RequestError(f"Batch {name_of(batch)} is {batch.state}, not {state}. {batch.reason}".strip())


def _check_acceptable(batch: Any) -> None:
    if 0 in (batch.rows, batch.accepted_rows):
        raise RequestError(f"Every row of batch {name_of(batch)} is rejected: there is nothing to accept. Mend the rows.")
    if not batch.is_validated:
        raise RequestError(
            f"Batch {name_of(batch)} was not validated row by row, so nobody knows what is in it. {batch.reason} "
            "Mend what that says, then validate it again."
        )
