"""After a clock that went back or a fail-over, rows dated before the cursor are landed once, and the ledger stays whole."""

import shutil
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from replicas import cut_off, replicated, standing_by
from toolbox import TABLE, edit_source, execute, is_landed_exactly_once

from perennial.errors import NothingToDo
from perennial.steps import ingest
from perennial.steps.audit import audit
from perennial.steps.late import intervals
from scratch import server_folder

DATED = (
    "INSERT INTO sightings (id, changed_at, seen_at, country, length, weight) "
    "VALUES (%s, now() - %s::interval, '2026-01-09', %s, 1, 2)"
)
HOUR = timedelta(hours=1)
T = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(12)]


def land(zoo):
    return ingest.land(zoo.resources, zoo.catalog.source("sightings"))


def set_clock_back(zoo, minutes):
    """As if the source's clock had been so much ahead at the last look, and is right by now."""
    zoo.sql("UPDATE cursors SET ahead = ahead + make_interval(mins => %s)", minutes)


def land_in_the_future(zoo):
    """As if the last landing had been made by a clock that was an hour ahead of what it is now."""
    zoo.sql("UPDATE cursors SET position = position + %s, seen_at = seen_at + %s, ahead = ahead + %s", HOUR, HOUR, HOUR)


def rules(zoo):
    return [(violation.rule, violation.what) for violation in audit(zoo.resources, zoo.catalog) if violation.rule == 6]


def late_batches(zoo):
    return {(row.country, row.rows) for row in zoo.sql("SELECT country, rows FROM batches WHERE is_late")}


def test_rows_dated_behind_the_cursor_by_a_clock_that_went_back_are_landed_once(zoo, caplog):
    zoo.see("Britain", range(3))
    land(zoo)
    zoo.see("France", range(3))
    land(zoo)
    set_clock_back(zoo, 10)
    execute(zoo.shop, DATED, 7001, "5 minutes", "Britain")
    execute(zoo.shop, DATED, 7002, "2 minutes", "Germany")
    execute(zoo.shop, DATED, 7003, "0 minutes", "Britain")
    assert land(zoo) == {"GB": 2, "DE": 1}
    assert is_landed_exactly_once(zoo)
    assert late_batches(zoo) == {("GB", 1), ("DE", 1)}
    assert "the source's clock is 0:10:00 behind where it was" in caplog.text
    assert rules(zoo) == []
    with pytest.raises(NothingToDo):
        land(zoo)
    zoo.see("Germany", range(3))
    assert land(zoo) == {"DE": 60}
    assert rules(zoo) == []


def test_while_the_clock_is_behind_the_cursor_rows_land_late_at_each_ingest(zoo):
    zoo.see("Britain", range(3))
    land(zoo)
    land_in_the_future(zoo)
    for number in range(3):
        execute(zoo.shop, DATED, 7001 + number, "0 minutes", "Britain")
        assert land(zoo) == {"GB": 1}
    assert is_landed_exactly_once(zoo)
    with pytest.raises(NothingToDo):
        land(zoo)
    assert rules(zoo) == []
    recheck, position = zoo.sql("SELECT recheck_from, position FROM cursors")[0]
    assert recheck < position


def test_a_late_landing_that_is_killed_is_made_again_and_adds_nothing_twice(zoo, monkeypatch):
    zoo.see("Britain", range(3))
    land(zoo)
    set_clock_back(zoo, 10)
    execute(zoo.shop, DATED, 7001, "5 minutes", "Britain")
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr(ingest, "land_late", lambda *given: 1 / 0)
        land(zoo)
    assert land(zoo) == {"GB": 1}
    assert is_landed_exactly_once(zoo)


def test_a_step_that_the_commit_lag_covers_is_no_reason_to_look_behind(zoo, caplog):
    edit_source(zoo, max_commit_lag=timedelta(minutes=30))
    zoo.see("Britain", range(3))
    with pytest.raises(NothingToDo):
        land(zoo)
    set_clock_back(zoo, 10)
    with pytest.raises(NothingToDo):
        land(zoo)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("landings", "found"),
    [
        ([], [(T[2], T[8])]),
        ([(T[1], T[3])], [(T[1], T[3]), (T[3], T[8])]),
        ([(T[4], T[5]), (T[7], T[9])], [(T[2], T[4]), (T[4], T[5]), (T[5], T[7]), (T[7], T[9])]),
    ],
)
def test_what_is_looked_through_once_more_are_landings_and_the_time_between_them(landings, found):
    assert list(intervals(landings, (T[2], T[8]))) == found


def test_a_transaction_prepared_while_the_clock_was_behind_keeps_its_rows_within_reach(pair, open_zoo, new_database, tmp_path):
    pair.primary.create_database("shop")
    zoo = open_zoo(pair.primary.dsn("shop"), new_database(), tmp_path / "store")
    execute(zoo.shop, TABLE)
    zoo.see("Britain", range(3))
    land(zoo)
    land_in_the_future(zoo)
    with closing(psycopg2.connect(zoo.shop)) as late:
        late.cursor().execute(DATED, (7001, "0 minutes", "Britain"))
        late.cursor().execute("PREPARE TRANSACTION 'behind'")
    for _ in range(2):
        with pytest.raises(NothingToDo, match="prepared transaction behind"):
            land(zoo)
    execute(zoo.shop, "COMMIT PREPARED 'behind'")
    assert land(zoo) == {"GB": 1}
    assert is_landed_exactly_once(zoo)


@pytest.fixture
def pair():
    folder = server_folder("perennial-test-")
    with replicated(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


def test_after_a_fail_over_to_a_server_whose_clock_is_behind_every_change_is_landed_once(
    pair, open_zoo, new_database, tmp_path, caplog
):
    pair.primary.create_database("shop")
    zoo = open_zoo(pair.primary.dsn("shop"), new_database(), tmp_path / "store")
    execute(zoo.shop, TABLE)
    zoo.see("Britain", range(3))
    land(zoo)
    pair.await_replay()
    cut_off(pair.primary)
    shop = pair.promote().dsn("shop")
    zoo.shop, zoo.resources = shop, replace(zoo.resources, source_dsn=lambda name: shop)
    set_clock_back(zoo, 10)
    execute(shop, DATED, 7001, "4 minutes", "Britain")
    zoo.see("Britain", range(3, 6))
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)
    assert rules(zoo) == []
    assert "/2 answers in the place of" in caplog.text


def test_a_standby_on_the_timeline_of_a_former_primary_is_not_read(pair, open_zoo, new_database, tmp_path, monkeypatch):
    monkeypatch.setattr("perennial.shell.postgres_source.REPLAY_SECONDS", 0.3)
    pair.primary.create_database("shop")
    zoo = open_zoo(pair.primary.dsn("shop"), new_database(), tmp_path / "store")
    execute(zoo.shop, TABLE)
    pair.await_replay()
    with standing_by(pair.primary, tmp_path.parent / "other") as other:
        promoted = pair.promote()
        dsns = {"zoo_db": other.dsn("shop"), "zoo_primary": promoted.dsn("shop")}
        zoo.resources = replace(zoo.resources, source_dsn=dsns.__getitem__)
        edit_source(zoo, primary="zoo_primary")
        zoo.see("Britain", range(3))
        with pytest.raises(NothingToDo, match="does not follow its primary"):
            land(zoo)
