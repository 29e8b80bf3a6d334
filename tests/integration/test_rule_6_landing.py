"""Rule 6: every change of every source row is landed exactly once. Rule 7: bad data stops its country only."""

import threading
from contextlib import closing
from dataclasses import replace

import pandas as pd
import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import make_dsn
from toolbox import DAY, START, cycle, edit_source, execute, is_landed_exactly_once, landed_changes, predict, reader

from perennial.errors import NothingToDo, RegistryError, SourceError, SourceMismatch
from perennial.shell import postgres_source
from perennial.spec import Column, Seconds
from perennial.steps import ingest, landing, validate

INSERT = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, '2026-01-09', 'Britain', 1, 2)"
REVISE = "INSERT INTO sightings SELECT id, now(), seen_at, country, length, {weight} FROM sightings"
NEXT_BATCH = """
INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max, object_key, sha256, size)
SELECT source, country, {seq}, {lower}, upper + '1 hour'::interval, {previous_upper}, rows, event_min, event_max, 'x', sha256,
       size
FROM batches WHERE seq = 1
"""


def land(zoo):
    return ingest.land(zoo.resources, zoo.catalog.source("sightings"))


def states(zoo):
    return {row.country: row.state for row in zoo.sql("SELECT country, state FROM batches")}


def reason(zoo, country):
    return zoo.sql("SELECT reason FROM batches WHERE country = %s", country)[0].reason


def test_many_small_landings_hold_every_change_once(zoo):
    for day in range(12):
        zoo.see("Britain", range(day, day + 1), per_day=3)
        zoo.see("France", range(day, day + 1), per_day=2)
        execute(zoo.shop, f"{REVISE.format(weight=9)} WHERE id = %s", day + 1)
        land(zoo)
    assert len(landed_changes(zoo)) == len(zoo.sql("SELECT 1 FROM batches")) * 3 == 12 * 6
    assert is_landed_exactly_once(zoo)


def test_landing_again_adds_nothing(zoo):
    zoo.see("Britain", range(3))
    land(zoo)
    with pytest.raises(NothingToDo):
        land(zoo)
    assert is_landed_exactly_once(zoo)


def test_rows_of_a_transaction_that_commits_late_are_landed_once(zoo):
    with closing(psycopg2.connect(zoo.shop)) as late:
        late.cursor().execute(INSERT, (7001,))
        zoo.see("Britain", range(3))
        with pytest.raises(NothingToDo):
            land(zoo)
        late.commit()
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)


def test_what_is_older_than_an_open_transaction_does_not_wait_for_it(zoo):
    zoo.see("Britain", range(3))
    with closing(psycopg2.connect(zoo.shop)) as late:
        late.cursor().execute(INSERT, (7001,))
        assert land(zoo) == {"GB": 60}
        late.commit()
    assert land(zoo) == {"GB": 1}
    assert is_landed_exactly_once(zoo)


def test_rows_younger_than_the_commit_lag_wait(zoo):
    edit_source(zoo, max_commit_lag=Seconds(3600))
    zoo.see("Britain", range(3))
    with pytest.raises(NothingToDo):
        land(zoo)
    edit_source(zoo, max_commit_lag=Seconds(0))
    assert land(zoo) == {"GB": 60}


def test_a_bound_behind_the_cursor_does_not_move_it_back(zoo):
    zoo.see("Britain", range(3))
    land(zoo)
    edit_source(zoo, max_commit_lag=Seconds(3600))
    with pytest.raises(NothingToDo):
        land(zoo)
    edit_source(zoo, max_commit_lag=Seconds(0))
    zoo.see("Britain", range(3, 4))
    assert land(zoo) == {"GB": 20}


def test_a_landing_killed_between_object_and_row_lands_once_when_run_again(zoo, monkeypatch):
    zoo.see("Britain", range(3))
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr(landing, "transaction", lambda database: 1 / 0)
        land(zoo)
    assert (len(zoo.resources.store.keys("lake/")), zoo.sql("SELECT 1 FROM batches")) == (1, [])
    land(zoo)
    assert is_landed_exactly_once(zoo)


def test_batches_and_cursor_move_together_or_not_at_all(zoo, monkeypatch):
    zoo.see("Britain", range(3))
    zoo.see("France", range(3))
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        run = landing.run
        killed.setattr(
            landing, "run", lambda *given, **values: 1 / 0 if values.get("country") == "GB" else run(*given, **values)
        )
        land(zoo)
    assert zoo.sql("SELECT 1 FROM batches") == []
    assert land(zoo) == {"FR": 60, "GB": 60}


def test_of_two_racing_landings_one_wins(zoo, monkeypatch):
    zoo.see("Britain", range(3))
    both_have_read, read, results = threading.Barrier(2), ingest.cursor_of, []
    monkeypatch.setattr(ingest, "cursor_of", lambda *given: (read(*given), both_have_read.wait(10))[0])
    race = [threading.Thread(target=lambda: results.append(attempt_to_land(zoo))) for _ in range(2)]
    for thread in race:
        thread.start()
    for thread in race:
        thread.join()
    assert sorted(results, key=str) == [
        "Another landing of sightings was faster. Nothing of this one was recorded.",
        {"GB": 60},
    ]
    assert is_landed_exactly_once(zoo)


def attempt_to_land(zoo):
    try:
        return land(zoo)
    except RegistryError as error:
        return str(error)


def test_a_snapshot_reads_the_latest_revision_of_each_key(zoo):
    zoo.see("Britain", range(60), slope=2)
    zoo.ingest()
    execute(zoo.shop, REVISE.format(weight="3 * length"))
    zoo.ingest()
    zoo.retrain()
    assert predict(reader(zoo).load("weight", "GB").estimator, 5) == pytest.approx(15, abs=0.1)
    assert zoo.sql("SELECT rows FROM snapshots")[0].rows == 60 * 20


def test_a_quarantined_revision_does_not_hide_the_accepted_one(zoo):
    zoo.see("Britain", range(60), slope=2)
    zoo.ingest()
    execute(zoo.shop, REVISE.format(weight="5000"))
    zoo.ingest()
    zoo.retrain()
    assert predict(reader(zoo).load("weight", "GB").estimator, 5) == pytest.approx(10, abs=0.5)


def test_a_retracted_batch_is_read_no_more(zoo):
    cycle(zoo)
    zoo.see("Britain", range(60, 75))
    zoo.ingest()
    zoo.sql("UPDATE batches SET state = 'retracted' WHERE seq = 2")
    cycle(zoo, range(75, 105))
    newest = zoo.sql("SELECT last_seq, excluded, rows, window_start FROM snapshots ORDER BY created_at DESC LIMIT 1")[0]
    seen = landed_changes(zoo)["seen_at"]
    retracted = seen.between(START + 60 * DAY, START + 75 * DAY)
    assert newest[:3] == (3, [2], int((seen[~retracted] >= newest.window_start).sum()))


@pytest.mark.parametrize(
    ("seq", "previous_upper", "refusal"),
    [
        (2, "upper", errors.CheckViolation),
        (2, "upper - '1 minute'::interval", errors.ForeignKeyViolation),
        (3, "upper", (errors.ForeignKeyViolation, errors.CheckViolation)),
        (1, "NULL", errors.UniqueViolation),
    ],
)
def test_intervals_of_a_country_cannot_overlap(zoo, seq, previous_upper, refusal):
    zoo.see("Britain", range(3))
    land(zoo)
    with pytest.raises(refusal):
        zoo.sql(NEXT_BATCH.format(seq=seq, lower="upper - '1 minute'::interval", previous_upper=previous_upper))


@pytest.mark.parametrize(
    "change",
    ["rows = 1", "sha256 = repeat('0', 64)", "object_key = 'x'", "lower = lower - '1 day'::interval", "country = 'FR'"],
)
def test_what_a_batch_holds_never_changes(zoo, change):
    zoo.see("Britain", range(3))
    land(zoo)
    with pytest.raises(errors.RestrictViolation, match="immutable"):
        zoo.sql(f"UPDATE batches SET {change}")


@pytest.mark.parametrize("statement", ["DELETE FROM batches", "TRUNCATE batches CASCADE"])
def test_a_batch_is_never_removed(zoo, statement):
    zoo.see("Britain", range(3))
    land(zoo)
    with pytest.raises(errors.RestrictViolation):
        zoo.sql(statement)


@pytest.mark.parametrize(
    ("before", "after"),
    [("landed", "retracted"), ("accepted", "landed"), ("accepted", "quarantined"), ("quarantined", "landed")],
)
def test_a_batch_cannot_take_an_unlawful_turn(zoo, before, after):
    zoo.see("Britain", range(3))
    land(zoo)
    zoo.sql("UPDATE batches SET state = %s", before)
    with pytest.raises(errors.RestrictViolation, match=f"cannot go from {before} to {after}"):
        zoo.sql("UPDATE batches SET state = %s", after)


def test_a_quarantined_batch_can_be_accepted_after_a_fix(zoo):
    zoo.see("Britain", range(60), slope=0, noise=5000)
    zoo.ingest()
    assert zoo.retrain()["weight/GB"].state == "skipped"
    zoo.sql("UPDATE batches SET state = 'accepted' WHERE state = 'quarantined'")
    assert zoo.retrain()["weight/GB"].state != "skipped"


def test_a_role_that_cannot_see_other_transactions_is_refused(zoo, postgres):
    zoo.see("Britain", range(3))
    execute(zoo.shop, "DROP ROLE IF EXISTS poor")
    execute(zoo.shop, "CREATE ROLE poor LOGIN")
    execute(zoo.shop, "GRANT SELECT ON sightings TO poor")
    zoo.resources = replace(zoo.resources, source_dsn=lambda name: make_dsn(zoo.shop, user="poor"))
    with closing(psycopg2.connect(zoo.shop)), pytest.raises(SourceMismatch, match="GRANT pg_read_all_stats to it"):
        land(zoo)
    execute(zoo.shop, "GRANT pg_read_all_stats TO poor")
    with closing(psycopg2.connect(zoo.shop)):
        assert land(zoo) == {"GB": 60}
    execute(zoo.shop, "DROP OWNED BY poor")


def test_a_missing_column_is_named_and_nothing_is_landed(zoo):
    zoo.see("Britain", range(3))
    execute(zoo.shop, "ALTER TABLE sightings RENAME COLUMN weight TO mass")
    with pytest.raises(SourceMismatch, match=r'sightings is not as .*sightings\.py:.* "?weight"? does not exist'):
        land(zoo)
    execute(zoo.shop, "ALTER TABLE sightings RENAME COLUMN mass TO weight")
    assert land(zoo) == {"GB": 60}


def test_values_of_another_type_in_every_row_hold_the_batch_and_are_named(zoo):
    edit_source(zoo, columns=tuple(replace(c, type="int64") if c.name == "country" else c for c in columns(zoo)))
    zoo.see("Britain", range(3))
    zoo.ingest()
    assert states(zoo) == {"GB": "quarantined"}
    assert "country: not a whole number" in reason(zoo, "GB")


def test_rows_without_a_moment_of_change_are_counted_and_the_others_land(zoo, caplog):
    zoo.see("Britain", range(3))
    execute(zoo.shop, "ALTER TABLE sightings DROP CONSTRAINT sightings_pkey, ALTER COLUMN changed_at DROP NOT NULL")
    execute(zoo.shop, "UPDATE sightings SET changed_at = NULL WHERE id <= 7")
    assert land(zoo) == {"GB": 53}
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "sightings: 7 rows of table sightings have no changed_at" in said
    execute(zoo.shop, "UPDATE sightings SET changed_at = now() WHERE changed_at IS NULL")
    caplog.clear()
    assert (land(zoo), caplog.records) == ({"GB": 7}, [])
    assert is_landed_exactly_once(zoo)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_a_moment_is_the_same_whatever_the_zone_of_the_databases_sessions(zoo, zone):
    execute(zoo.shop, "ALTER DATABASE " + psycopg2.extensions.parse_dsn(zoo.shop)["dbname"] + f" SET timezone = '{zone}'")
    execute(zoo.shop, "INSERT INTO sightings VALUES (1, now(), '2026-01-31 12:00:00+02', 'Britain', 1, 2)")
    land(zoo)
    assert landed_changes(zoo)["seen_at"].tolist() == [pd.Timestamp("2026-01-31T10:00:00Z")]
    assert is_landed_exactly_once(zoo)


@pytest.mark.parametrize("kind", ["timestamp", "date", "text"])
@pytest.mark.parametrize("column", ["seen_at", "changed_at"])
def test_a_moment_whose_zone_is_not_told_is_refused(zoo, column, kind):
    zoo.see("Britain", range(3))
    execute(zoo.shop, f"ALTER TABLE sightings ALTER COLUMN {column} DROP DEFAULT, ALTER COLUMN {column} TYPE {kind}")
    with pytest.raises(SourceMismatch, match=f"sightings: {column} of table sightings does not name its zone"):
        land(zoo)
    assert zoo.sql("SELECT 1 FROM batches") == []


def test_a_table_that_lacks_a_timestamp_is_refused_with_its_name(zoo):
    execute(zoo.shop, "ALTER TABLE sightings RENAME COLUMN changed_at TO altered_at")
    with pytest.raises(SourceMismatch, match=r'sightings is not as .*: .* "?changed_at"? does not exist'):
        land(zoo)


def columns(zoo) -> tuple[Column, ...]:
    return zoo.catalog.source("sightings").columns


def test_an_unreachable_source_is_named_with_its_connection(zoo):
    zoo.resources = replace(zoo.resources, source_dsn=lambda name: "host=/nowhere")
    with pytest.raises(SourceError, match="Source sightings cannot be reached through connection zoo_db"):
        land(zoo)


def test_a_source_that_goes_away_is_not_taken_for_the_registry(zoo):
    source = zoo.catalog.source("sightings")
    with pytest.raises(SourceError, match="sightings went away"), postgres_source.connected(zoo.shop, source) as connection:
        execute(zoo.shop, "SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
        postgres_source.look(connection, source)


@pytest.mark.parametrize("country", ["Atlantis", None])
def test_rows_of_an_unknown_country_are_kept_aside(zoo, country):
    zoo.see(country, range(3))
    zoo.see("Britain", range(3))
    zoo.ingest()
    assert states(zoo) == {"ZZ": "quarantined", "GB": "accepted"}
    assert "add them to countries" in reason(zoo, "ZZ")


def test_the_garbage_of_one_country_stops_that_country_only(zoo):
    zoo.see("Britain", range(60))
    zoo.see("France", range(60), slope=0, noise=5000)
    zoo.ingest()
    assert states(zoo) == {"GB": "accepted", "FR": "quarantined"}
    assert "weight: " in reason(zoo, "FR")
    assert {cell: row.state for cell, row in zoo.retrain().items()} == {"weight/GB": "published", "weight/FR": "skipped"}


def test_a_validation_that_cannot_run_counts_as_failed(zoo):
    zoo.see("Britain", range(3))
    zoo.see("France", range(3))
    land(zoo)
    key = zoo.sql("SELECT object_key FROM batches WHERE country = 'FR'")[0].object_key
    zoo.resources.store.put(key, b"cut")
    validate.validate(zoo.resources, zoo.catalog.source("sightings"))
    assert states(zoo) == {"GB": "accepted", "FR": "quarantined"}
    assert "could not run: StoreError" in reason(zoo, "FR")


def test_what_is_landed_is_accepted_or_quarantined_or_retracted(zoo):
    for country, noise in (("Britain", 1), ("France", 5000), ("Germany", 1), ("Atlantis", 1)):
        zoo.see(country, range(5), noise=noise)
    zoo.ingest()
    zoo.sql("UPDATE batches SET state = 'retracted' WHERE country = 'DE'")
    rows = dict(zoo.sql("SELECT state, sum(rows)::int FROM batches GROUP BY state"))
    assert rows == {"accepted": 100, "quarantined": 200, "retracted": 100}
    assert sum(rows.values()) == len(landed_changes(zoo)) == 4 * 5 * 20
