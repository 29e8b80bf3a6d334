"""Quarantine: what a person decides about a batch after the fact. Each decision is kept with the person and the reason.

Rows that were rejected come in again by themselves once they are mended at their source: a mended row is a new change.
"""

import logging
from dataclasses import dataclass
from typing import Any

from perennial.cell import Cell
from perennial.errors import NothingToDo, RequestError
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction
from perennial.spec import Source
from perennial.steps.validate import decide

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tainted:
    """A version that was trained on a retracted batch; ``is_champion``: it is in force."""

    cell: Cell
    version: str
    is_champion: bool


def accept_batch(resources: Resources, source: str, country: str, seq: int, person: str, reason: str) -> None:
    """Accept a batch that was kept aside, without its rejected rows; the cells it concerns become due.

    Raises RequestError for a batch that is not kept aside, whose rows were all rejected, or whose validation did not run.
    """
    _check_said(person, reason)
    database = connect(resources.database)
    try:
        batch = _batch(database, source, country, seq, "quarantined")
        _check_acceptable(batch)
        with transaction(database):
            said = f"Accepted by {person}: {reason}. It was kept aside for: {batch.reason}"
            if run(database, "accept_batch", source=source, country=country, seq=seq, reason=said) != 1:
                raise RequestError(f"Batch {_name(batch)} was decided by somebody else meanwhile. Look again.")
            _note(database, batch, "accept", person, reason)
    finally:
        database.close()
    logger.info("%s accepted by %s: %s", _name(batch), person, reason)


def retract_batch(resources: Resources, source: str, country: str, seq: int, person: str, reason: str) -> list[Tainted]:
    """Take an accepted batch back: nothing reads it any more. Returns the versions trained on it, champions first; their
    cells become due. Raises RequestError for a batch that is not accepted.
    """
    _check_said(person, reason)
    database = connect(resources.database)
    try:
        batch = _batch(database, source, country, seq, "accepted")
        with transaction(database):
            said = f"Retracted by {person}: {reason}"
            if run(database, "retract_batch", source=source, country=country, seq=seq, reason=said) != 1:
                raise RequestError(f"Batch {_name(batch)} was decided by somebody else meanwhile. Look again.")
            trained = fetch(database, "versions_trained_on", source=source, country=country, seq=seq)
            _note(database, batch, "retract", person, reason, [row.id for row in trained])
    finally:
        database.close()
    logger.warning("%s retracted by %s: %s. %s versions were trained on it", _name(batch), person, reason, len(trained))
    return [
        Tainted(cell=Cell(row.model, row.country), version=row.id, is_champion=row.is_champion) for row in trained
    ]  # fmt: skip


def validate_again(
    resources: Resources, source: Source, person: str, reason: str, country: str | None = None, seq: int | None = None
) -> dict[str, int]:
    """Validate batches that were kept aside by today's spec, of one country or number or all; returns how many are now
    accepted and how many stay. For after the spec was mended, or a validation could not run. Raises NothingToDo.
    """
    _check_said(person, reason)
    database = connect(resources.database)
    try:
        held = fetch(database, "held_batches", source=source.name, country=country, seq=seq)
        if not held:
            raise NothingToDo(f"Source {source.name} has no such batch in quarantine.")
        for batch in held:
            _note(database, batch, "validate again", person, reason)
        states = decide(resources, database, source, held)
    finally:
        database.close()
    return {state: states.count(state) for state in ("accepted", "quarantined")}


def _check_said(person: str, reason: str) -> None:
    if not person.strip() or not reason.strip():
        raise RequestError("A decision about a batch needs a person and a reason: whoever reads the ledger will ask.")


def _batch(database: Connection, source: str, country: str, seq: int, state: str) -> Any:
    batch = fetch_one(database, "batch_of", source=source, country=country, seq=seq)
    if batch is None:
        raise RequestError(f"There is no batch {source}/{country} {seq}.")
    if batch.state != state:
        raise RequestError(f"Batch {_name(batch)} is {batch.state}, not {state}. {batch.reason}".strip())
    return batch


def _check_acceptable(batch: Any) -> None:
    if batch.accepted_rows == 0:
        raise RequestError(f"Every row of batch {_name(batch)} is rejected: there is nothing to accept. Mend the rows.")
    if not batch.is_validated:
        raise RequestError(
            f"Batch {_name(batch)} was not validated row by row, so nobody knows what is in it. {batch.reason} "
            "Mend what that says, then validate it again."
        )


def _note(
    database: Connection, batch: Any, decision: str, person: str, reason: str, versions: list[str] | None = None
) -> None:  # fmt: skip
    run(
        database, "add_batch_decision", source=batch.source, country=batch.country, seq=batch.seq, decision=decision,
        person=person, reason=reason, overruled=batch.reason, versions=versions or [],
    )  # fmt: skip


def _name(batch: Any) -> str:
    return f"{batch.source}/{batch.country} {batch.seq}"
