"""The comparison span: the shortest recent one that holds enough."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from perennial.core.spans import comparison_span, unseen_rows
from perennial.errors import ExamplesError
from perennial.spec import Days, Gate, Minutes

GATE = Gate(floor=1, min_rows=60, min_clusters=3)
START = datetime(2026, 1, 1, tzinfo=UTC)


def times(days, per_day=20):
    """Examples of ``per_day`` rows at the hours of each day since START."""
    return frame([START + Days(day) + Days(row / (per_day + 1)) for day in days for row in range(per_day)])


def frame(moments):
    return pd.DataFrame({"event_time": pd.Series(moments, dtype="datetime64[us, UTC]")})


def test_the_span_is_the_shortest_recent_one_with_enough_rows_and_days():
    span = comparison_span(times(range(30)), GATE, Days(20), after=None)
    assert (span.start, span.rows, span.clusters, span.enough) == (START + Days(27), 60, 3, True)
    assert span.end == times(range(30))["event_time"].iloc[-1]


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
    examples = times(range(30))
    events = examples["event_time"]
    for after in (None, START + Days(20.5), events.iloc[500]):
        span = comparison_span(examples, GATE, Days(20), after)
        assert span.contains(events).sum() == span.rows


def test_a_champion_that_has_seen_everything_leaves_an_empty_span():
    examples = times(range(30))
    events = examples["event_time"]
    span = comparison_span(examples, GATE, Days(20), after=events.iloc[-1])
    assert (span.rows, span.clusters, span.enough) == (0, 0, False)


def test_without_examples_there_is_no_span():
    assert comparison_span(times([]), GATE, Days(20), after=None) is None


def test_unseen_rows_are_those_of_the_span_after_the_last_verdict():
    examples = times(range(30))
    events = examples["event_time"]
    span = comparison_span(examples, GATE, Days(20), after=None)
    assert unseen_rows(events, span, None) == 60
    assert unseen_rows(events, span, events.iloc[-8]) == 7
    assert unseen_rows(events, span, events.iloc[-1]) == 0
    assert unseen_rows(events, span, START) == 60


def test_hours_can_be_the_clusters_of_a_busy_cell():
    gate = Gate(floor=1, min_rows=60, min_clusters=3, cluster="hour")
    minutes = frame([START + Minutes(minute) for minute in range(24 * 60)])
    span = comparison_span(minutes, gate, Days(1), after=None)
    assert (span.start, span.rows, span.clusters) == (START + Minutes(21 * 60), 180, 3)


def test_a_column_can_be_the_cluster_and_each_value_counts_once():
    examples = times(range(30), per_day=20).assign(customer=[row % 20 // 5 + 10 * (row < 540) for row in range(600)])
    of_four = comparison_span(examples, Gate(floor=1, min_rows=2, min_clusters=4, cluster="customer"), Days(20), None)
    of_five = comparison_span(examples, Gate(floor=1, min_rows=2, min_clusters=5, cluster="customer"), Days(20), None)
    assert (of_four.start, of_four.rows, of_four.clusters) == (START + Days(29), 20, 4)
    assert (of_five.start, of_five.rows, of_five.clusters) == (START + Days(26), 80, 8)


def test_a_cluster_that_the_examples_lack_is_named():
    with pytest.raises(ExamplesError, match="no column customer"):
        comparison_span(times(range(30)), Gate(floor=1, cluster="customer"), Days(20), after=None)


def test_more_rows_may_be_asked_for_than_the_gate_does():
    assert comparison_span(times(range(30)), GATE, Days(20), None, min_rows=200).rows == 200
    too_many = comparison_span(times(range(30)), GATE, Days(20), None, min_rows=2000)
    assert (too_many.rows, too_many.enough) == (400, False)


def test_an_event_after_the_span_is_not_in_it():
    examples = times(range(30))
    span = comparison_span(examples, GATE, Days(20), after=None)
    later = frame([span.start - Days(1), span.start, span.end, span.end + Days(1)])
    assert span.contains(later["event_time"]).tolist() == [False, True, True, False]


def test_a_span_begins_with_the_first_moment_after_the_mark():
    mark = START + Days(27.5)
    assert comparison_span(times(range(30)), GATE, Days(20), after=mark).start == mark + timedelta(microseconds=1)


def test_enough_rows_of_too_few_days_are_not_enough():
    span = comparison_span(times([0, 1], per_day=100), GATE, Days(20), after=None)
    assert (span.rows, span.clusters, span.enough) == (200, 2, False)
