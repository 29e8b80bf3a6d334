"""The comparison span: the shortest recent one that holds enough."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from perennial.core.spans import comparison_span, unseen_rows
from perennial.spec import Days, Gate

GATE = Gate(floor=1, min_rows=60, min_clusters=3)
START = datetime(2026, 1, 1, tzinfo=UTC)


def times(days, per_day=20):
    """Event times of ``per_day`` rows at the hours of each day since START."""
    return pd.Series([START + Days(day) + Days(row / (per_day + 1)) for day in days for row in range(per_day)])


def test_the_span_is_the_shortest_recent_one_with_enough_rows_and_days():
    span = comparison_span(times(range(30)), GATE, Days(20), after=None)
    assert (span.start, span.rows, span.clusters, span.enough) == (START + Days(27), 60, 3, True)
    assert span.end == times(range(30)).iloc[-1]


@pytest.mark.parametrize(("rows", "clusters", "days"), [(2, 5, 5), (100, 2, 5), (101, 2, 6)])
def test_both_rows_and_days_must_suffice(rows, clusters, days):
    span = comparison_span(times(range(30)), Gate(floor=1, min_rows=rows, min_clusters=clusters), Days(20), after=None)
    assert span.clusters == days


def test_days_without_rows_do_not_count():
    span = comparison_span(times([0, 3, 10, 11]), GATE, Days(20), after=None)
    assert (span.start, span.clusters) == (START + Days(3), 3)


def test_the_span_is_at_most_as_long_as_the_holdout():
    span = comparison_span(times(range(30), per_day=5), GATE, Days(7), after=None)
    assert not span.enough
    assert span.rows < 60
    assert span.end - span.start < Days(7)


def test_rows_up_to_the_champions_mark_are_left_out():
    mark = START + Days(27.5)
    span = comparison_span(times(range(30)), GATE, Days(20), after=mark)
    assert span.start > mark
    assert (span.clusters, span.rows, span.enough) == (3, 49, False)


def test_the_span_holds_exactly_the_rows_it_counts():
    events = times(range(30))
    for after in (None, START + Days(20.5), events.iloc[500]):
        span = comparison_span(events, GATE, Days(20), after)
        assert span.contains(events).sum() == span.rows


def test_a_champion_that_has_seen_everything_leaves_an_empty_span():
    events = times(range(30))
    span = comparison_span(events, GATE, Days(20), after=events.iloc[-1])
    assert (span.rows, span.clusters, span.enough) == (0, 0, False)


def test_without_examples_there_is_no_span():
    assert comparison_span(times([]).astype("datetime64[us, UTC]"), GATE, Days(20), after=None) is None


def test_unseen_rows_are_those_of_the_span_after_the_last_verdict():
    events = times(range(30))
    span = comparison_span(events, GATE, Days(20), after=None)
    assert unseen_rows(events, span, None) == 60
    assert unseen_rows(events, span, events.iloc[-8]) == 7
    assert unseen_rows(events, span, events.iloc[-1]) == 0
    assert unseen_rows(events, span, START) == 60
