"""Rule 7: bad data stops what is bad: rows, or a country's batch; with a reason, and a way back."""

import hashlib
from collections import Counter
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg2 import errors
from toolbox import champion, cycle, edit_source, execute, predict, reader

from perennial import REJECT_ROW, Checks, Limit
from perennial.core import expectations
from perennial.errors import NothingToDo, RequestError
from perennial.shell.lake import open_batch
from perennial.steps import ingest
from perennial.steps.audit import audit
from perennial.steps.quarantine import accept_batch, retract_batch, validate_again
from perennial.steps.validate import validate

ROW = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, %s, %s, %s, %s)"


@pytest.fixture
def loose(zoo):
    """A zoo whose table lets everything in."""
    execute(zoo.shop, "ALTER TABLE sightings DROP CONSTRAINT sightings_pkey, ALTER COLUMN id DROP NOT NULL")
    return zoo


def batches(zoo):
    return {(row.country, row.seq): row for row in zoo.sql("SELECT * FROM batches")}


def splits(zoo):
    return {(row.country, row.seq): row for row in zoo.sql("SELECT * FROM splits")}


def balance(zoo):
    """Landed rows and what became of them, over all countries; that it balances is part of every look."""
    total = Counter()
    for row in zoo.rows("audit_balance"):
        total.update({name: value for name, value in row._asdict().items() if isinstance(value, int)})
    landed = total.pop("landed")
    assert landed == sum(total.values()) == sum(row.rows for row in batches(zoo).values())
    return {name: value for name, value in total.items() if value}


def rows_of(zoo, key, digest):
    return open_batch(zoo.resources.store, key, digest).read().to_pandas()


def source_of(zoo):
    return zoo.catalog.source("sightings")


def overwritten(zoo, country, change):
    """Replace what a landed batch holds, as a landing of another making would have written it."""
    row = batches(zoo)[country, 1]
    table = change(open_batch(zoo.resources.store, row.object_key, row.sha256).read())
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    zoo.resources.store.put(row.object_key, data)
    digest = hashlib.sha256(data).hexdigest()
    zoo.sql("SET session_replication_role = replica; UPDATE batches SET sha256 = %s, rows = %s WHERE country = %s",
            digest, table.num_rows, country)  # fmt: skip


def test_rows_without_key_or_event_time_are_kept_aside_and_the_others_are_read(loose):
    loose.see("Britain", range(60))
    execute(loose.shop, ROW, None, "2026-01-05", "Britain", 1, 2)
    execute(loose.shop, ROW, 7002, None, "Britain", 1, 2)
    loose.ingest()
    assert batches(loose)["GB", 1].state == "accepted"
    assert balance(loose) == {"accepted": 1200, "quarantined": 2}
    outcome = loose.retrain()["weight/GB"]
    assert (outcome.state, loose.sql("SELECT rows FROM snapshots")[0].rows) == ("published", 1200)
    assert audit(loose.resources, loose.catalog) == []


def test_a_rejected_row_is_kept_with_its_values_the_expectation_and_the_reason(zoo):
    zoo.see("Britain", range(3))
    execute(zoo.shop, ROW, 7001, "2026-01-05", "Britain", float("inf"), 2)
    zoo.ingest()
    split = splits(zoo)["GB", 1]
    (kept,) = rows_of(zoo, split.rejected_key, split.rejected_sha256).to_dict("records")
    assert (kept["id"], kept["length"], list(kept["rejected_by"])) == (
        7001, float("inf"), ["expect_multicolumn_values_to_be_finite"],
    )  # fmt: skip
    assert kept["rejected_because"] == "expect_multicolumn_values_to_be_finite on length, weight"
    assert split.rejections == {"expect_multicolumn_values_to_be_finite": 1}
    assert "length inf" in batches(zoo)["GB", 1].reason
    assert 7001 not in set(rows_of(zoo, split.accepted_key, split.accepted_sha256)["id"])


def test_a_rejected_event_of_the_future_does_not_move_the_data_time(zoo):
    zoo.see("Britain", range(3))
    execute(zoo.shop, ROW, 7001, "2099-01-01", "Britain", 1, 2)
    zoo.ingest()
    assert splits(zoo)["GB", 1].rejected_rows == 1
    row = zoo.rows("as_of", source="sightings")[0]
    assert row.as_of.year == 2026
    assert row.as_of.month == 1


def test_a_batch_of_rejected_rows_only_is_held_and_cannot_be_accepted(loose):
    execute(loose.shop, ROW, 7002, None, "Britain", 1, 2)
    loose.ingest()
    row = batches(loose)["GB", 1]
    assert (row.state, row.event_min) == ("quarantined", None)
    with pytest.raises(RequestError, match="Every row of batch sightings/GB 1 is rejected"):
        accept_batch(loose.resources, "sightings", "GB", 1, "ann", "let it in")
    assert balance(loose) == {"quarantined": 1}
    assert audit(loose.resources, loose.catalog) == []


def test_a_delivery_made_twice_is_accepted_once(zoo):
    edit_source(zoo, checks=Checks(copies=REJECT_ROW))
    zoo.see("Britain", range(30))
    zoo.ingest()
    execute(zoo.shop, "INSERT INTO sightings SELECT id + 5000, now(), seen_at, country, length, weight FROM sightings")
    zoo.see("Britain", range(30, 32))
    zoo.ingest()
    assert splits(zoo)["GB", 2].rejections == {"copies": 600}
    assert balance(zoo) == {"accepted": 640, "quarantined": 600}


def test_a_correction_that_makes_a_row_like_another_is_no_copy(zoo):
    edit_source(zoo, checks=Checks(copies=REJECT_ROW))
    for key, weight in ((1, 20), (2, 2)):
        execute(zoo.shop, ROW, key, "2026-01-05", "Britain", 1, weight)
    zoo.ingest()
    execute(zoo.shop, "INSERT INTO sightings SELECT 1, now(), seen_at, country, length, 2 FROM sightings WHERE id = 1")
    zoo.ingest()
    assert (splits(zoo), balance(zoo)) == ({}, {"accepted": 3})


def test_an_object_that_is_gone_is_a_failed_validation_of_its_batch_only(zoo):
    for country in ("Britain", "France"):
        zoo.see(country, range(3))
    ingest.land(zoo.resources, source_of(zoo))
    (zoo.resources.store.root / batches(zoo)["FR", 1].object_key).unlink()
    validate(zoo.resources, source_of(zoo))
    found = batches(zoo)
    assert (found["GB", 1].state, found["FR", 1].state) == ("accepted", "quarantined")
    assert "could not run: ObjectMissing" in found["FR", 1].reason


CHANGED = {
    "vanished": (lambda table: table.drop_columns("weight"), "column weight has vanished"),
    "of another type": (
        lambda table: table.set_column(0, "id", table["id"].cast(pa.string())),
        "column id is of type string, the spec says int64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", CHANGED)
def test_a_column_that_has_changed_holds_its_country_only(zoo, how):
    change, said = CHANGED[how]
    for country in ("Britain", "France"):
        zoo.see(country, range(3))
    ingest.land(zoo.resources, source_of(zoo))
    overwritten(zoo, "FR", change)
    validate(zoo.resources, source_of(zoo))
    found = batches(zoo)
    assert (found["GB", 1].state, found["FR", 1].state) == ("accepted", "quarantined")
    assert said in found["FR", 1].reason


def test_a_batch_of_unknown_countries_that_lost_that_column_is_held_and_the_others_are_not(zoo):
    zoo.see("Atlantis", range(3))
    zoo.see("France", range(3))
    ingest.land(zoo.resources, source_of(zoo))
    overwritten(zoo, "ZZ", lambda table: table.drop_columns("country"))
    validate(zoo.resources, source_of(zoo))
    found = batches(zoo)
    assert (found["FR", 1].state, found["ZZ", 1].state) == ("accepted", "quarantined")
    assert "has no column country" in found["ZZ", 1].reason


def test_a_new_column_is_noticed_and_left_out(zoo):
    zoo.see("France", range(3))
    ingest.land(zoo.resources, source_of(zoo))
    overwritten(zoo, "FR", lambda table: table.append_column("mood", pa.array(["good"] * table.num_rows)))
    validate(zoo.resources, source_of(zoo))
    row = batches(zoo)["FR", 1]
    assert (row.state, "noticed: column mood is new" in row.reason) == ("accepted", True)


def raising():
    raise ZeroDivisionError("no expectations today")


@pytest.mark.parametrize(
    ("expectations_of", "said"), [(raising, "ZeroDivisionError: no expectations today"), (list, "has no expectations")]
)
def test_a_suite_that_cannot_be_built_holds_what_it_covers_until_it_is_mended(zoo, expectations_of, said):
    zoo.see("Britain", range(3))
    sound = source_of(zoo).expectations
    edit_source(zoo, expectations=expectations_of)
    zoo.ingest()
    row = batches(zoo)["GB", 1]
    assert (row.state, said in row.reason) == ("quarantined", True)
    with pytest.raises(RequestError, match="was not validated row by row"):
        accept_batch(zoo.resources, "sightings", "GB", 1, "ann", "let it in")
    edit_source(zoo, expectations=sound)
    assert validate_again(zoo.resources, source_of(zoo), "ann", "mended") == {"accepted": ["GB 1"], "quarantined": []}
    assert audit(zoo.resources, zoo.catalog) == []


def test_a_suite_that_crashes_on_one_batch_holds_that_one_only(zoo, monkeypatch):
    for country in ("Britain", "France"):
        zoo.see(country, range(3))
    run = expectations.Suite._run

    def crashing(self, frame, *given):
        if "France" in set(frame["country"]):
            raise MemoryError("too much")
        return run(self, frame, *given)

    monkeypatch.setattr(expectations.Suite, "_run", crashing)
    zoo.ingest()
    found = batches(zoo)
    assert (found["GB", 1].state, found["FR", 1].state) == ("accepted", "quarantined")
    assert "could not run: MemoryError: too much" in found["FR", 1].reason


def test_a_validation_made_anew_replaces_the_split_of_a_held_batch(zoo):
    edit_source(zoo, checks=Checks(max_rejected=0.0))
    zoo.see("Britain", range(3))
    execute(zoo.shop, ROW, 7001, "2026-01-05", "Britain", float("inf"), 2)
    zoo.ingest()
    assert (batches(zoo)["GB", 1].state, balance(zoo)) == ("quarantined", {"quarantined": 61})
    edit_source(zoo, checks=Checks())
    validate_again(zoo.resources, source_of(zoo), "ann", "one in sixty is fine", country="GB", seq=1)
    assert balance(zoo) == {"accepted": 60, "quarantined": 1}
    with pytest.raises(NothingToDo):
        validate_again(zoo.resources, source_of(zoo), "ann", "again")


def held_zoo(zoo):
    """Two countries published; Britain's next month is held, for it has three times as many rows."""
    edit_source(zoo, country_checks={"GB": Checks(volume=Limit(2.0, 2.5))})
    cycle(zoo, range(60), "Britain", "France")
    zoo.see("France", range(60, 90))
    zoo.see("Britain", range(60, 90), per_day=60)
    zoo.ingest()
    return zoo


def test_an_accepted_batch_names_who_and_why_and_its_cells_retrain(zoo):
    outcomes = held_zoo(zoo).retrain()
    assert {cell: row.state for cell, row in outcomes.items()}["weight/FR"] == "published"
    assert (outcomes["weight/GB"].state, outcomes["weight/GB"].reason[:28]) == ("skipped", "Batch sightings/GB 2 is held")
    before = champion(zoo).id
    accept_batch(zoo.resources, "sightings", "GB", 2, "ann", "the zoo has grown")
    assert zoo.retrain()["weight/GB"].state == "published"
    assert champion(zoo).id != before
    (decision,) = zoo.sql("SELECT decision, person, reason, overruled FROM batch_decisions")
    assert decision[:3] == ("accept", "ann", "the zoo has grown")
    assert "volume: 30 of 30 days are unusual" in decision.overruled
    assert "weight/GB" not in zoo.retrain()
    assert audit(zoo.resources, zoo.catalog) == []


def test_a_retraction_names_the_versions_trained_on_the_batch_and_makes_their_cells_due(zoo):
    cycle(zoo, range(60), "Britain", "France")
    zoo.see("Britain", range(60, 90))
    zoo.see("France", range(60, 90))
    zoo.ingest()
    zoo.retrain()
    zoo.see("Britain", range(90, 120))
    zoo.see("France", range(90, 120))
    zoo.ingest()
    zoo.retrain()
    assert zoo.retrain() == {}
    tainted = retract_batch(zoo.resources, "sightings", "GB", 2, "ann", "a broken scale")
    trained = {row.id for row in zoo.sql("SELECT v.id FROM versions v JOIN snapshots s ON s.id = v.snapshot "
                                         "WHERE s.country = 'GB' AND s.last_seq >= 2")}  # fmt: skip
    assert {each.version for each in tainted} == trained
    assert tainted[0].is_champion
    assert list(zoo.retrain()) == ["weight/GB"]
    newest = zoo.sql("SELECT excluded FROM snapshots ORDER BY created_at DESC LIMIT 1")[0]
    assert newest.excluded == [2]
    assert zoo.retrain() == {}
    assert balance(zoo) == {"accepted": 2 * 1200 + 3 * 600, "retracted": 600}
    assert audit(zoo.resources, zoo.catalog) == []
    assert predict(reader(zoo).load("weight", "GB").estimator, 5) == pytest.approx(10, abs=1)


@pytest.mark.parametrize(("person", "reason"), [("", "why"), ("ann", " ")])
def test_a_decision_without_person_or_reason_is_refused(zoo, person, reason):
    zoo.see("Britain", range(3))
    zoo.ingest()
    with pytest.raises(RequestError, match="needs a person and a reason"):
        retract_batch(zoo.resources, "sightings", "GB", 1, person, reason)


def test_only_what_is_held_is_accepted_and_only_what_is_accepted_is_retracted(zoo):
    zoo.see("Britain", range(3))
    zoo.see("France", range(3), noise=5000)
    zoo.ingest()
    with pytest.raises(RequestError, match="sightings/GB 1 is accepted, not quarantined"):
        accept_batch(zoo.resources, "sightings", "GB", 1, "ann", "why not")
    with pytest.raises(RequestError, match="sightings/FR 1 is quarantined, not accepted"):
        retract_batch(zoo.resources, "sightings", "FR", 1, "ann", "why not")
    with pytest.raises(RequestError, match="There is no batch sightings/ES 1"):
        retract_batch(zoo.resources, "sightings", "ES", 1, "ann", "why not")


@pytest.mark.parametrize("statement", ["DELETE FROM splits", "UPDATE splits SET rejected_rows = 2", "TRUNCATE splits"])
def test_what_is_read_of_an_accepted_batch_never_changes(zoo, statement):
    zoo.see("Britain", range(3))
    execute(zoo.shop, ROW, 7001, "2026-01-05", "Britain", float("inf"), 2)
    zoo.ingest()
    with pytest.raises(errors.RestrictViolation):
        zoo.sql(statement)


def test_a_month_without_rows_for_which_history_has_no_reason_is_noticed(zoo):
    zoo.see("Britain", range(60))
    zoo.ingest()
    zoo.see("Britain", range(80, 90))
    zoo.ingest()
    found = [each for each in batches(zoo)["GB", 2].report["findings"] if each["expectation"] == "volume"]
    assert [each["success"] for each in found] == [False]
    assert "2026-03-02: 0 rows, 20 to 20 are usual" in found[0]["text"]


def test_the_audit_finds_a_split_that_is_not_what_was_landed(zoo):
    zoo.see("Britain", range(3))
    execute(zoo.shop, ROW, 7001, "2026-01-05", "Britain", float("inf"), 2)
    zoo.ingest()
    split = splits(zoo)["GB", 1]
    other = batches(zoo)["GB", 1]
    zoo.sql("SET session_replication_role = replica; UPDATE splits SET accepted_key = %s, accepted_sha256 = %s",
            other.object_key, other.sha256)  # fmt: skip
    said = {str(each) for each in audit(zoo.resources, zoo.catalog)}
    assert any("together are not what was landed" in each for each in said)
    assert split.accepted_rows == other.rows - 1


def test_later_batches_are_compared_with_earlier_ones_of_the_same_turn(zoo):
    zoo.see("Britain", range(60))
    ingest.land(zoo.resources, source_of(zoo))
    zoo.see("Britain", range(60, 61), per_day=2000)
    ingest.land(zoo.resources, source_of(zoo))
    validate(zoo.resources, source_of(zoo))
    assert batches(zoo)["GB", 2].state == "quarantined"
    assert "volume: 1 of 1 days are unusual" in batches(zoo)["GB", 2].reason


def test_a_field_of_ten_megabytes_costs_its_row(zoo):
    edit_source(zoo, countries={"Britain": "GB", "x" * 10_000_000: "GB"})
    zoo.see("Britain", range(3))
    zoo.see("x" * 10_000_000, range(1), per_day=1)
    zoo.ingest()
    assert splits(zoo)["GB", 1].rejections == {"expect_multicolumn_values_to_be_readable": 1}
    assert len(batches(zoo)["GB", 1].reason) < 1000


def test_the_clock_that_bounds_events_is_the_sources(zoo):
    zoo.see("Britain", range(3))
    execute(zoo.shop, ROW, 7001, pd.Timestamp.now(tz="UTC") + timedelta(hours=20), "Britain", 1, 2)
    execute(zoo.shop, ROW, 7002, pd.Timestamp.now(tz="UTC") + timedelta(hours=30), "Britain", 1, 2)
    zoo.ingest()
    assert splits(zoo)["GB", 1].rejections == {"expect_column_values_to_be_plausible_times": 1}
