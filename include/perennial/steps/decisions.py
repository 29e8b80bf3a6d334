"""A batch that a person decides about, how it is named, and the record of the decision."""

from collections.abc import Sequence
from typing import Any

from perennial.errors import RequestError
from perennial.shell.database import Connection, fetch_one, run


def batch_of(database: Connection, source: str, country: str, seq: int) -> Any:
    """A batch as it stands. Raises RequestError where there is none."""
    batch = fetch_one(database, "batch_of", source=source, country=country, seq=seq)
    if batch is None:
        raise RequestError(f"There is no batch {source}/{country} {seq}.")
    return batch


def note(database: Connection, batch: Any, decision: str, person: str, reason: str, versions: Sequence[str] = ()) -> None:
    """Record a decision, with the reason that stood before it and, at a retraction, the versions trained on the batch."""
    run(
        database, "add_batch_decision", source=batch.source, country=batch.country, seq=batch.seq, decision=decision,
        person=person, reason=reason, overruled=batch.reason, versions=list(versions),
    )  # fmt: skip


def name_of(batch: Any) -> str:
    """A batch among those of all sources."""
    return f"{batch.source}/{short_name(batch)}"


def short_name(batch: Any) -> str:
    """A batch among those of its source."""
    return f"{batch.country} {batch.seq}"
