"""The comparison span: the shortest recent stretch of matured examples that holds enough rows and clusters."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from perennial.errors import ExamplesError
from perennial.spec import Gate

UNITS = {"day": "D", "hour": "h"}


@dataclass(frozen=True, kw_only=True)
class Span:
    """``start <= event_time <= end``; ``enough`` says whether it holds the rows and clusters a verdict needs."""

    start: datetime
    end: datetime
    rows: int
    clusters: int
    enough: bool

    def contains(self, event_times: pd.Series) -> pd.Series:
        """Which event times lie within the span."""
        return (event_times >= self.start) & (event_times <= self.end)


def clusters_of(examples: pd.DataFrame, gate: Gate) -> pd.Series:
    """Each example's cluster by the gate. Raises ExamplesError when the gate names a column that is not there."""
    if gate.cluster in UNITS:
        return pd.Series(examples["event_time"].dt.floor(UNITS[gate.cluster]))
    if gate.cluster not in examples:
        raise ExamplesError(f"examples() has no column {gate.cluster}, the gate's cluster. Add it, or name another.")
    return examples[gate.cluster].astype(str)


def comparison_span(
    examples: pd.DataFrame, gate: Gate, holdout: timedelta, after: datetime | None, min_rows: float = 0
) -> Span | None:
    """The span that ends with the newest matured example, or None when there is no example at all.

    ``examples`` are matured ones, ascending by event time; ``after`` is the champion's judged mark: only later ones
    count. ``min_rows`` may ask for more rows than the gate does. The span starts at a full day or hour UTC, or right
    after the mark. Where even ``holdout``, in whole units, holds too few, it is all of it.
    """
    if examples.empty:
        return None
    unit = UNITS.get(gate.cluster, "D")
    end = examples["event_time"].iloc[-1]
    earliest = (end - holdout).ceil(unit)
    if after is not None:
        earliest = max(earliest, pd.Timestamp(after) + pd.Timedelta(microseconds=1))
    usable = examples[examples["event_time"] >= earliest]
    if usable.empty:
        return Span(start=end, end=end, rows=0, clusters=0, enough=False)
    rows, clusters = _held_from(usable, gate, unit)
    sufficient = (rows >= max(gate.min_rows, min_rows)) & (clusters >= gate.min_clusters)
    first: Any = sufficient.idxmax() if sufficient.any() else rows.index[-1]
    return Span(
        start=max(first, earliest).to_pydatetime(),
        end=end.to_pydatetime(),
        rows=int(rows[first]),
        clusters=int(clusters[first]),
        enough=bool(sufficient.any()),
    )


def _held_from(usable: pd.DataFrame, gate: Gate, unit: str) -> tuple[pd.Series, pd.Series]:
    """Rows and distinct clusters of the spans that start with each unit, the latest unit first."""
    units = usable["event_time"].dt.floor(unit)
    rows = units.value_counts().sort_index(ascending=False).cumsum()
    latest_units = units.groupby(clusters_of(usable, gate).to_numpy()).max()
    clusters = latest_units.value_counts().reindex(rows.index, fill_value=0).cumsum()
    return rows, clusters


def unseen_rows(event_times: pd.Series, span: Span, seen_until: datetime | None) -> int:
    """How many examples of the span the last verdict has not seen."""
    inside = event_times[span.contains(event_times)]
    return int(len(inside) if seen_until is None else (inside > seen_until).sum())
