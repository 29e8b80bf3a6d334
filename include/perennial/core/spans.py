"""The comparison span: the shortest recent stretch of matured examples that holds enough rows and clusters."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perennial.errors import ExamplesError
from perennial.spec import Gate

UNITS = {"day": "D", "hour": "h"}
Codes = NDArray[np.int64]


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


def clusters_of(examples: pd.DataFrame, gate: Gate) -> Codes:
    """Each example's cluster by the gate, as numbers of shape (n_rows,) that are equal where the clusters are.

    Raises ExamplesError when the gate names a column that is not there.
    """
    if gate.cluster in UNITS:
        return _units(examples["event_time"], UNITS[gate.cluster])
    if gate.cluster not in examples:
        raise ExamplesError(f"examples() has no column {gate.cluster}, the gate's cluster. Add it, or name another.")
    return pd.factorize(examples[gate.cluster].astype(str))[0]


def _units(event_times: pd.Series, unit: str) -> Codes:
    """The day or hour UTC of each event time, counted from 1970."""
    return event_times.to_numpy(dtype="datetime64[us]").astype(f"datetime64[{unit}]").astype("int64")


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
    starts, rows, clusters = _held_from(usable, gate, unit)
    sufficient = (rows >= max(gate.min_rows, min_rows)) & (clusters >= gate.min_clusters)
    first = int(sufficient.argmax()) if sufficient.any() else -1
    return Span(
        start=max(pd.Timestamp(starts[first], unit=unit, tz="UTC"), earliest).to_pydatetime(),
        end=end.to_pydatetime(),
        rows=int(rows[first]),
        clusters=int(clusters[first]),
        enough=bool(sufficient.any()),
    )


def _held_from(usable: pd.DataFrame, gate: Gate, unit: str) -> tuple[Codes, Codes, Codes]:
    """The units with examples, latest first; rows and distinct clusters of the spans that start with each."""
    latest_first = _units(usable["event_time"], unit)[::-1]
    starts, counts = np.unique(-latest_first, return_counts=True)
    _, newest = np.unique(clusters_of(usable, gate)[::-1], return_index=True)
    begun = np.bincount(np.searchsorted(starts, -latest_first[newest]), minlength=len(starts))
    return -starts, counts.cumsum(), begun.cumsum()


def unseen_rows(event_times: pd.Series, span: Span, seen_until: datetime | None) -> int:
    """How many examples of the span the last verdict has not seen."""
    inside = event_times[span.contains(event_times)]
    return int(len(inside) if seen_until is None else (inside > seen_until).sum())
