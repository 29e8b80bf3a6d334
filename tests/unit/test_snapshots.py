"""Snapshots: what is read, and how revisions become rows."""

import hashlib
import json
from dataclasses import FrozenInstanceError, asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from toy_files import sightings_files
from toy_models.zoo.weight import weight
from toy_sources.sightings import sightings

from perennial.core.snapshots import Snapshot, also_known, latest_revisions, window_of
from perennial.spec import Days

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SNAPSHOT = Snapshot(source="sightings", country="GB", last_seq=3, excluded=(2,), window_start=NOW - Days(80), window_end=NOW)


def rows(*facts):
    """Rows from (id, changed_at day, seen_at day, weight)."""
    table = pd.DataFrame(facts, columns=["id", "changed_at", "seen_at", "weight"])
    return table.assign(**{name: NOW + pd.to_timedelta(table[name], unit="D") for name in ("changed_at", "seen_at")})


def test_the_latest_revision_of_a_key_wins():
    latest = latest_revisions(rows((1, 3, 0, 30.0), (1, 9, 0, 90.0), (1, 5, 0, 50.0), (2, 1, 1, 10.0)), sightings)
    assert latest["weight"].to_dict() == {1: 90.0, 2: 10.0}


def test_rows_are_indexed_by_their_key_and_sorted_by_event_time():
    latest = latest_revisions(rows((1, 0, 9, 1.0), (3, 0, 2, 1.0), (2, 0, 2, 1.0)), sightings)
    assert latest.index.name == "id"
    assert list(latest.index) == [2, 3, 1]


def test_a_key_may_have_several_columns():
    table = rows((1, 0, 0, 1.0), (1, 1, 0, 2.0), (2, 0, 0, 3.0)).assign(line=[1, 2, 1])
    latest = latest_revisions(table, replace(sightings, key=("id", "line")))
    assert latest.index.names == ["id", "line"]
    assert len(latest) == 3


@pytest.mark.parametrize(
    ("facts", "ids"),
    [
        ([(2, 0, 1, 1.0), (1, 0, 2, 1.0)], [2, 1]),  # ordered by event, not by key
        ([(1, 0, 2, 1.0), (2, 0, 1, 1.0)], [2, 1]),  # ordered by key, not by event
        ([(2, 0, 1, 1.0), (1, 0, 1, 1.0)], [1, 2]),  # of one event time
        ([(1, 0, 1, 1.0), (2, 0, 1, 1.0)], [1, 2]),
    ],
)
def test_rows_are_sorted_by_event_time_and_then_by_key(facts, ids):
    assert list(latest_revisions(rows(*facts), sightings).index) == ids


def test_rows_that_are_in_order_are_not_copied():
    table = rows((1, 0, 1, 1.0), (2, 0, 2, 2.0))
    assert np.shares_memory(latest_revisions(table, sightings)["weight"], table["weight"])


def test_rows_of_one_event_time_are_sorted_by_every_column_of_the_key():
    table = rows((1, 0, 0, 1.0), (1, 0, 0, 2.0), (1, 0, 0, 3.0)).assign(line=[3, 1, 2])
    latest = latest_revisions(table, replace(sightings, key=("id", "line")))
    assert list(latest.index) == [(1, 1), (1, 2), (1, 3)]


def test_what_was_known_is_joined_by_what_was_written_down_later():
    known, now = rows((1, 0, 0, 1.0)).set_index("id"), rows((1, 5, 0, 9.0), (2, 5, 1, 2.0)).set_index("id")
    assert also_known(known, now)["weight"].to_dict() == {1: 1.0, 2: 2.0}
    assert also_known(known, now[:1]) is known


def test_a_backfills_snapshot_is_another_one_at_each_time_and_others_keep_their_id():
    backfills = {replace(SNAPSHOT, known_until=NOW - Days(day)).id for day in (1, 2)}
    assert len({SNAPSHOT.id, *backfills}) == 3
    facts = {name: value for name, value in asdict(SNAPSHOT).items() if name != "known_until"}
    assert SNAPSHOT.id == hashlib.sha256(json.dumps(facts, default=datetime.isoformat).encode()).hexdigest()


def test_a_key_whose_latest_revision_is_a_removal_is_gone_until_it_comes_back():
    table = rows((1, 0, 0, 10.0), (1, 1, 0, 10.0), (2, 0, 0, 20.0), (2, 1, 0, 20.0), (2, 2, 0, 21.0), (3, 0, 0, 30.0))
    latest = latest_revisions(table.assign(removed=[False, True, False, True, False, False]), sightings_files)
    assert latest["weight"].to_dict() == {2: 21.0, 3: 30.0}
    assert "removed" not in latest


def test_the_order_of_reading_does_not_matter():
    table = rows(*((number % 7, number, number % 5, float(number)) for number in range(50)))
    assert latest_revisions(table.sample(frac=1, random_state=0), sightings).equals(latest_revisions(table, sightings))


def test_the_window_reaches_over_window_holdout_and_lookback():
    assert window_of(replace(weight, lookback=Days(5)), NOW) == (NOW - Days(85), NOW)


def test_a_snapshot_is_what_it_is():
    with pytest.raises(FrozenInstanceError):
        SNAPSHOT.last_seq = 4


def test_two_snapshots_of_the_same_have_the_same_id():
    assert replace(SNAPSHOT).id == SNAPSHOT.id
    assert len(SNAPSHOT.id) == 64


@pytest.mark.parametrize(
    "change",
    [{"country": "FR"}, {"last_seq": 4}, {"excluded": ()}, {"window_end": NOW + timedelta(microseconds=1)}, {"source": "x"}],
)
def test_whatever_changes_what_is_read_changes_the_id(change):
    assert replace(SNAPSHOT, **change).id != SNAPSHOT.id
