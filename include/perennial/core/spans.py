"""The comparison span: the shortest recent stretch of matured examples that holds enough rows and days."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from perennial.spec import Gate


@dataclass(frozen=True, kw_only=True)
class Span:
    """``start <= event_time <= end``; ``enough`` says whether it holds the rows and days a verdict needs."""

    start: datetime
    end: datetime
    rows: int
    clusters: int
    enough: bool

    def contains(self, event_times: pd.Series) -> pd.Series:
        """Which event times lie within the span."""
        return (event_times >= self.start) & (event_times <= self.end)


def comparison_span(event_times: pd.Series, gate: Gate, holdout: timedelta, after: datetime | None) -> Span | None:
    """The span that ends with the newest matured example, or None when there is no example at all.

    ``event_times`` are those of matured examples, ascending; ``after`` is the champion's judged mark: only later rows
    count. The span starts at midnight UTC, or right after the mark. Where even ``holdout``, in whole days, holds too few, it
    is all of it.
    """
    if event_times.empty:
        return None
    end = event_times.iloc[-1]
    earliest = (end - holdout).ceil("D")
    if after is not None:
        earliest = max(earliest, pd.Timestamp(after) + pd.Timedelta(microseconds=1))
    usable = event_times[event_times >= earliest]
    if usable.empty:
        return Span(start=end, end=end, rows=0, clusters=0, enough=False)
    per_day = usable.dt.floor("D").value_counts().sort_index(ascending=False)
    totals = per_day.cumsum()
    days = pd.Series(range(1, len(per_day) + 1), index=per_day.index)
    sufficient = (totals >= gate.min_rows) & (days >= gate.min_clusters)
    first = sufficient.idxmax() if sufficient.any() else per_day.index[-1]
    return Span(
        start=max(first, earliest).to_pydatetime(),
        end=end.to_pydatetime(),
        rows=int(totals[first]),
        clusters=int(days[first]),
        enough=bool(sufficient.any()),
    )


def unseen_rows(event_times: pd.Series, span: Span, seen_until: datetime | None) -> int:
    """How many examples of the span the last verdict has not seen."""
    inside = event_times[span.contains(event_times)]
    return int(len(inside) if seen_until is None else (inside > seen_until).sum())
