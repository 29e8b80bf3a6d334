"""What a training reads, and how revisions of a row become one row."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import pandas as pd

from perennial.spec import REMOVED, Model, Source


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Accepted batches 1 to ``last_seq`` of a source and country without ``excluded``, within an event-time window.

    The window is closed at both ends: ``window_start <= event_time <= window_end``. ``known_until``: of a backfill, which
    reads no revision with a later ``changed_at``.
    """

    source: str
    country: str
    last_seq: int
    excluded: tuple[int, ...]
    window_start: datetime
    window_end: datetime
    known_until: datetime | None = None

    @property
    def id(self) -> str:
        """Hash of what is read."""
        facts = asdict(self)
        if self.known_until is None:
            del facts["known_until"]
        return hashlib.sha256(json.dumps(facts, default=datetime.isoformat).encode()).hexdigest()


def window_of(model: Model, as_of: datetime) -> tuple[datetime, datetime]:
    """Event times a training of ``model`` may look at: its window before the longest span, plus the lookback."""
    reach: timedelta = model.window + model.holdout + model.lookback
    return as_of - reach, as_of


def also_known(known: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """The rows that were known then, and as they stand now those that have no revision of then; both indexed by the key.

    For a time before a country's first landing: much of what had happened by then was written down later.
    """
    later = now[~now.index.isin(known.index)]
    return pd.concat([known, later]) if len(later) else known


def latest_revisions(rows: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Keep the row of the latest ``changed_at`` per key, indexed by the key and sorted by event time.

    A key whose latest revision says that it is removed is gone.
    """
    keys = list(source.key)
    if rows.duplicated(keys).any():
        rows = rows.sort_values(source.changed_at, kind="stable").drop_duplicates(keys, keep="last")
    if REMOVED in rows:
        present = rows if not rows[REMOVED].any() else rows[~rows[REMOVED]]
        rows = present.drop(columns=REMOVED)
    order = [source.event_time, *keys]
    ordered = len(keys) == 1 and rows[source.event_time].is_monotonic_increasing and rows[keys[0]].is_monotonic_increasing
    return (rows if ordered else rows.sort_values(order, kind="stable")).set_index(keys)
