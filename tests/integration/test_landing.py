"""Rule 6: every change of every source row is landed exactly once, and one country's bad data stops that country only."""

import psycopg2
import pytest

from conftest import execute
from perennial.errors import NothingToDo, RegistryError, SourceError, SourceMismatch
from perennial.shell import lake
from perennial.steps import ingest


def landed(zoo) -> list[tuple[int, object]]:
    """Identity of every row in every batch."""
    rows = []
    for batch in zoo.sql("SELECT object_key, sha256 FROM batches"):
        for chunk in lake.chunks(lake.open_batch(zoo.resources.store, batch.object_key, batch.sha256)):
            rows += list(zip(chunk["id"], chunk["changed_at"], strict=True))
    return rows


def test_every_change_is_landed_once_over_many_ingests(zoo):
    written = []
    for day in range(5):
        written += zoo.see("Britain", range(day, day + 1))
        zoo.ingest()
    assert sorted(id for id, _ in landed(zoo)) == sorted(written)


def test_a_transaction_that_commits_late_is_neither_lost_nor_doubled(zoo):
    late = psycopg2.connect(zoo.shop)
    with late.cursor() as cursor:
        cursor.execute("INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (-1, now(), 'France', 1, 2)")
    written = zoo.see("Britain", range(0, 1))
    with pytest.raises(NothingToDo):
        zoo.ingest()
    late.commit()
    late.close()
    zoo.ingest()
    assert sorted(id for id, _ in landed(zoo)) == sorted([-1, *written])


def test_a_crash_between_objects_and_rows_lands_once_after_the_retry(zoo, monkeypatch):
    written = zoo.see("Britain", range(0, 2))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ingest, "transaction", crash)
        zoo.ingest()
    assert zoo.resources.store.keys("lake/")
    assert landed(zoo) == []
    zoo.ingest()
    assert sorted(id for id, _ in landed(zoo)) == sorted(written)


def crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_of_two_landings_of_one_interval_one_wins(zoo, monkeypatch):
    zoo.see("Britain", range(0, 2))
    source, record = zoo.catalog.source("sightings"), ingest._record

    def overtaken(*arguments):
        monkeypatch.setattr(ingest, "_record", record)
        ingest.land(zoo.resources, source)
        return record(*arguments)

    monkeypatch.setattr(ingest, "_record", overtaken)
    with pytest.raises(RegistryError, match="faster"):
        ingest.land(zoo.resources, source)
    assert len(landed(zoo)) == 40


def test_a_snapshot_reads_the_latest_revision_of_a_row(zoo):
    ids = zoo.see("Britain", range(0, 60))
    zoo.ingest()
    statement = "INSERT INTO sightings SELECT id, now(), seen_at, country, length, -900 FROM sightings WHERE id = %s"
    execute(zoo.shop, statement, ids[-1])
    zoo.ingest()
    zoo.retrain()
    assert zoo.sql("SELECT rows FROM snapshots")[0].rows == len(ids)


def test_intervals_of_a_country_cannot_overlap(zoo):
    zoo.see("Britain", range(0, 1))
    zoo.ingest()
    statement = """INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max,
        object_key, sha256, size) SELECT source, country, 2, lower, upper, upper, rows, event_min, event_max, 'x', sha256, 1
        FROM batches"""
    with pytest.raises(psycopg2.errors.CheckViolation):
        zoo.sql(statement)


@pytest.mark.parametrize("change", ["rows = rows + 1", "state = 'landed'", "object_key = 'other'"])
def test_a_landed_batch_never_changes(zoo, change):
    zoo.see("Britain", range(0, 1))
    zoo.ingest()
    with pytest.raises(psycopg2.errors.RestrictViolation):
        zoo.sql(f"UPDATE batches SET {change}")


def test_one_countrys_garbage_stops_that_country_only(zoo):
    zoo.see("Britain", range(0, 60))
    zoo.see("France", range(0, 60), slope=1e6)
    zoo.ingest()
    states = {row.country: (row.state, row.reason) for row in zoo.sql("SELECT country, state, reason FROM batches")}
    assert states["GB"] == ("accepted", "")
    assert "expect_column_values_to_be_between on weight" in states["FR"][1]
    assert {cell: row.state for cell, row in zoo.retrain().items()} == {"weight/GB": "published"}


def test_a_country_unknown_to_the_source_is_kept_aside_with_the_fix(zoo):
    zoo.see("Atlantis", range(0, 1))
    zoo.ingest()
    (batch,) = zoo.sql("SELECT country, state, reason FROM batches")
    assert (batch.country, batch.state) == ("ZZ", "quarantined")
    assert "add them to countries" in batch.reason


def test_a_validation_that_cannot_run_counts_as_failed(zoo):
    zoo.see("Britain", range(0, 1))
    source = zoo.catalog.source("sightings")
    ingest.land(zoo.resources, source)
    zoo.resources.store.put(zoo.sql("SELECT object_key FROM batches")[0].object_key, b"torn")
    assert ingest.validate(zoo.resources, source) == {"accepted": 0, "quarantined": 1}


def test_a_missing_column_is_named_and_nothing_is_lost(zoo):
    execute(zoo.shop, "ALTER TABLE sightings RENAME COLUMN weight TO mass")
    with pytest.raises(SourceMismatch, match=r"sightings.*weight"):
        zoo.ingest()


def test_an_unreachable_source_names_the_connection(zoo, new_database):
    from dataclasses import replace

    resources = replace(zoo.resources, source_dsn=lambda name: "postgresql://nobody@/nowhere?host=/nowhere")
    with pytest.raises(SourceError, match="zoo_db"):
        ingest.land(resources, zoo.catalog.source("sightings"))


def test_a_role_that_cannot_see_open_transactions_is_refused(zoo):
    from dataclasses import replace

    execute(zoo.shop, "DROP ROLE IF EXISTS blind")
    execute(zoo.shop, "CREATE ROLE blind LOGIN")
    execute(zoo.shop, "GRANT SELECT ON sightings TO blind")
    other = psycopg2.connect(zoo.shop)
    other.cursor().execute("SELECT 1")
    blind = replace(
        zoo.resources, source_dsn=lambda name: zoo.shop.replace("postgres:", "blind:").replace("postgres@", "blind@")
    )
    with pytest.raises(SourceMismatch, match="pg_read_all_stats"):
        ingest.land(blind, zoo.catalog.source("sightings"))
    other.close()
    execute(zoo.shop, "DROP OWNED BY blind")


def test_announcing_twice_wakes_once(zoo):
    zoo.see("Britain", range(0, 1))
    zoo.ingest()
    assert ingest.announce(zoo.resources, zoo.catalog.source("sightings")) == ["GB/1"]
    with pytest.raises(NothingToDo):
        ingest.announce(zoo.resources, zoo.catalog.source("sightings"))
