"""No country waits for a person longer than a batch because its rows look different now; what does harm still waits."""

from datetime import timedelta

import pytest
from toolbox import edit_source, execute

from perennial import REJECT_ROW, Checks
from perennial.core import profiles
from perennial.steps import ingest
from perennial.steps.audit import audit
from perennial.steps.quarantine import accept_batch
from perennial.steps.validate import validate

WEEK = 7


def land_week(zoo, number, change="", share=1.0):
    """Land a week of sightings in Britain, of which a share is changed before."""
    seen = zoo.see("Britain", range(number * WEEK, (number + 1) * WEEK))
    if change:
        execute(zoo.shop, f"UPDATE sightings SET {change} WHERE id = ANY (%s)", seen[: round(share * len(seen))])
    ingest.land(zoo.resources, source_of(zoo))
    return seen


def ingest_week(zoo, number, change="", share=1.0):
    land_week(zoo, number, change, share)
    validate(zoo.resources, source_of(zoo))
    return state_of(zoo, number + 1)


def source_of(zoo):
    return zoo.catalog.source("sightings")


def row_of(zoo, seq):
    return zoo.sql("SELECT * FROM batches WHERE country = 'GB' AND seq = %s", seq)[0]


def state_of(zoo, seq):
    return row_of(zoo, seq).state


EMPTY, CENTS = "length = NULL", "length = length * 100"


def test_a_column_that_appears_holds_no_batch(zoo):
    states = [ingest_week(zoo, number, EMPTY, 0.63 if number < 4 else 0.0) for number in range(10)]
    assert states == ["accepted"] * 10
    assert "share of missing length: 0.0% of 140 rows, 62.9% to 62.9% before" in row_of(zoo, 5).reason


def test_a_column_that_vanishes_for_good_holds_one_batch_until_the_next_one(zoo):
    states = [ingest_week(zoo, number, EMPTY, 1.0 if number >= 4 else 0.0) for number in range(10)]
    assert states == ["accepted"] * 4 + ["quarantined"] + ["accepted"] * 5
    assert {state_of(zoo, seq) for seq in range(1, 11)} == {"accepted"}
    assert "share of missing length: 100.0%" in row_of(zoo, 6).reason
    assert row_of(zoo, 5).reason.startswith("Accepted, for the next batch, 6, looks the same. It was kept aside for: share")
    (decision,) = zoo.sql("SELECT seq, decision, person, reason FROM batch_decisions")
    assert decision == (5, "accept", "perennial", "the next batch, 6, looks the same")
    assert audit(zoo.resources, zoo.catalog) == []


def test_two_batches_of_one_turn_confirm_each_other(zoo):
    for number in range(4):
        ingest_week(zoo, number)
    for number in (4, 5):
        land_week(zoo, number, EMPTY)
    assert validate(zoo.resources, source_of(zoo)) == {"accepted": 1, "quarantined": 1}
    assert (state_of(zoo, 5), state_of(zoo, 6)) == ("accepted", "accepted")


def test_a_column_that_was_missing_once_stays_with_its_batch(zoo):
    states = [ingest_week(zoo, number, EMPTY, 1.0 if number == 4 else 0.0) for number in range(7)]
    assert states == ["accepted"] * 4 + ["quarantined"] + ["accepted"] * 2
    assert state_of(zoo, 5) == "quarantined"


def test_a_batch_that_the_next_one_may_have_copied_is_left_to_a_person(zoo):
    edit_source(zoo, checks=Checks(copies=REJECT_ROW))
    for number in range(4):
        ingest_week(zoo, number)
    assert ingest_week(zoo, 4, EMPTY) == "quarantined"
    execute(zoo.shop, "INSERT INTO sightings SELECT id + 5000, now(), seen_at, country, length, weight FROM sightings "
                      "WHERE length IS NULL")  # fmt: skip
    ingest.land(zoo.resources, source_of(zoo))
    validate(zoo.resources, source_of(zoo))
    assert (state_of(zoo, 5), state_of(zoo, 6)) == ("quarantined", "accepted")


def test_prices_in_cents_wait_for_a_person_and_the_country_goes_on_after_them(zoo):
    states = [ingest_week(zoo, number, CENTS, 1.0 if number in (4, 5) else 0.0) for number in range(7)]
    assert states == ["accepted"] * 4 + ["quarantined"] * 2 + ["accepted"]
    assert "scale of length: half of 140 values are above" in row_of(zoo, 5).reason
    accept_batch(zoo.resources, "sightings", "GB", 5, "ann", "they are in cents from now on")
    assert ingest_week(zoo, 7, CENTS) == "accepted"


def test_prices_that_stay_in_cents_until_people_had_time_to_look_are_the_new_normal(zoo, monkeypatch):
    states = [ingest_week(zoo, number, CENTS, 1.0 if number >= 4 else 0.0) for number in range(6)]
    assert states[4:] == ["quarantined"] * 2
    monkeypatch.setattr(profiles, "TIME_TO_LOOK", timedelta(0))
    assert ingest_week(zoo, 6, CENTS) == "accepted"
    assert {state_of(zoo, seq) for seq in range(1, 8)} == {"accepted"}


@pytest.mark.parametrize(("key", "state"), [(("country",), "quarantined"), (("id",), "accepted")])
def test_a_key_that_repeats_holds_the_batch(zoo, key, state):
    edit_source(zoo, key=key)
    assert ingest_week(zoo, 0) == state
    said = "keys: 140 of 140 rows have the country, changed_at of another row that says otherwise"
    assert (said in row_of(zoo, 1).reason) == (state == "quarantined")


def test_a_few_rows_that_contradict_each_other_are_told(zoo):
    execute(zoo.shop, "ALTER TABLE sightings DROP CONSTRAINT sightings_pkey")
    seen = zoo.see("Britain", range(WEEK))
    execute(zoo.shop, "INSERT INTO sightings SELECT id, changed_at, seen_at, country, length + 1, weight FROM sightings "
                      "WHERE id = ANY (%s)", seen[:3])  # fmt: skip
    zoo.ingest()
    assert (state_of(zoo, 1), "noticed: keys: 6 of 143 rows" in row_of(zoo, 1).reason) == ("accepted", True)
