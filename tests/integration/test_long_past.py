"""What is kept of a past, so that nobody adds it up again, is what its accepted batches say."""

from datetime import date

import pytest

from perennial.steps.ingest import land
from perennial.steps.quarantine import retract_batch
from perennial.steps.validate import validate

GB = {"source": "sightings", "country": "GB"}
EVER = {"starts": [date(2020, 1, 1), date(2026, 1, 1)], "ends": [date(2030, 1, 1), date(2026, 1, 3)]}


@pytest.fixture
def seen(zoo):
    """Three accepted batches of one country, the last of which comes late."""
    for days in (range(3, 5), range(4, 7), range(1, 4)):
        zoo.see("Britain", days)
        zoo.ingest()
    return zoo


def days(zoo, seq):
    """Rows by day of January before a batch."""
    return {row.day.day: row.rows for row in zoo.rows("days_seen", **GB, **EVER, seq=seq)}


def test_rows_by_day_are_those_of_the_accepted_batches_before_one(seen):
    assert days(seen, 4) == {2: 20, 3: 20, 4: 40, 5: 40, 6: 20, 7: 20}
    assert days(seen, 3) == {4: 20, 5: 40, 6: 20, 7: 20}
    assert days(seen, 1) == {}


def test_the_first_day_is_that_of_the_accepted_batches_before_one(seen):
    first = [seen.rows("first_event", **GB, seq=seq)[0].moment for seq in (1, 2, 3, 4)]
    assert [moment and moment.day for moment in first] == [None, 4, 4, 2]


def test_what_is_retracted_counts_on_no_day(seen):
    retract_batch(seen.resources, "sightings", "GB", 2, "ann", "wrong")
    assert days(seen, 4) == {2: 20, 3: 20, 4: 40, 5: 20}
    assert seen.sql("SELECT DISTINCT seq FROM batch_days ORDER BY seq") == [(1,), (3,)]


def test_a_batch_that_waits_counts_on_no_day_until_it_is_accepted(seen):
    before = days(seen, 9)
    seen.see("Britain", range(1, 3))
    land(seen.resources, seen.catalog.source("sightings"))
    assert days(seen, 9) == before
    validate(seen.resources, seen.catalog.source("sightings"))
    assert days(seen, 9) == {**before, 2: 40, 3: 40}


def test_batches_of_the_same_days_are_found_and_no_others(seen):
    asked = {"event_min": date(2026, 1, 6), "event_max": date(2026, 1, 9), "number": 100}
    assert [row.seq for row in seen.rows("overlapping_batches", **GB, seq=4, **asked)] == [2]
    asked["event_min"] = date(2026, 1, 4)
    assert [row.seq for row in seen.rows("overlapping_batches", **GB, seq=4, **asked)] == [3, 2, 1]
    assert [row.seq for row in seen.rows("overlapping_batches", **GB, seq=4, **{**asked, "number": 2})] == [3, 2]
