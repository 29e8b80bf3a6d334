"""Causes: what goes wrong with a source that its owner is notified of, and what makes two of them the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perennial.core.messages import VARYING
from perennial.failures import cut
from perennial.spec import QUARANTINE_BATCH, Checks

INGEST_FAILED, HELD_BACK, SILENT = "ingest failed", "held back", "silent"
NOT_VALIDATED, BATCH_HELD, FILE_REFUSED = "batch not validated", "batch held", "file refused"
UNDATED, REJECTED, FUTURE = "undated rows", "rows rejected", "future rows"
WORST_FIRST = (
    INGEST_FAILED, HELD_BACK, SILENT, NOT_VALIDATED, BATCH_HELD, FILE_REFUSED, UNDATED, REJECTED, FUTURE,
)  # fmt: skip
SHARE_WORTH_A_WORD = 0.25  # of the share of rejected rows that holds a batch
MOST_SUBJECT = 500
MOST_REASON = 2_000


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One of a source: what it is, since when, and how it ended, where it has.

    ``is_new``: its owner is not notified of its beginning yet. ``items``: the first of the batches
    (country and number) or files (name and revision) that it is about; ``size``: of how many.
    """

    id: int
    kind: str
    subject: str
    reason: str
    began_at: datetime
    is_new: bool
    ended_at: datetime | None = None
    ending: str = ""
    items: tuple[tuple[str, int], ...] = field(default=())
    size: int = 0


def cause_of_batch(country: str, findings: Iterable[Mapping[str, Any]] | None) -> tuple[str, str]:
    """Kind and subject of a held batch: those of a country that are held for the same are one cause."""
    held_for = [
        (each["expectation"], *each["columns"])
        for each in findings or ()
        if not each["success"] and each["severity"] == QUARANTINE_BATCH
    ]
    if any(name == "validation" for name, *_ in held_for):
        return NOT_VALIDATED, country
    names = sorted(" ".join(parts) for parts in held_for)
    return BATCH_HELD, cut(f"{country}: {', '.join(names)}", MOST_SUBJECT)


def alike(reason: str) -> str:
    """A reason without what varies from time to time: numbers and hashes."""
    return cut(VARYING.sub("#", " ".join(reason.split())), MOST_SUBJECT)


def worth_a_word(rejected: int, rows: int, checks: Checks) -> bool:
    """Whether so many rows are rejected that the owner is to know: a quarter of what holds a batch.

    Of few rows more may be so by chance: three standard deviations.
    """
    share = checks.max_rejected * SHARE_WORTH_A_WORD
    by_chance: float = 3 * (share * (1 - share) * rows) ** 0.5
    return rejected > share * rows + by_chance
