"""A table read from a hot standby: the primary says what is still open, and the standby is read once it shows the rest."""

import itertools
import shutil
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from replicas import replicated
from toolbox import TABLE, edit_source, execute, is_landed_exactly_once, landed_changes

from perennial.errors import NothingToDo, SourceError, SourceMismatch
from perennial.shell import postgres_source
from perennial.steps import causes, ingest
from scratch import server_folder

NUMBERS = itertools.count()
INSERT = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, '2026-01-09', 'Britain', 1, 2)"


@pytest.fixture(scope="module")
def pair():
    folder = server_folder("perennial-test-")
    with replicated(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def zoo(pair, open_zoo, new_database, tmp_path):
    """A zoo that writes to the primary and is read from the standby; ``zoo_primary`` leads to the primary."""
    name = f"shop_{next(NUMBERS)}"
    pair.primary.create_database(name)
    made = open_zoo(pair.primary.dsn(name), new_database(), tmp_path / "store")
    dsns = {"zoo_db": pair.standby.dsn(name), "zoo_primary": pair.primary.dsn(name)}
    made.resources = replace(made.resources, source_dsn=dsns.__getitem__)
    execute(made.shop, TABLE)
    edit_source(made, primary="zoo_primary")
    pair.await_replay()
    return made


def land(zoo):
    return ingest.land(zoo.resources, zoo.catalog.source("sightings"))


def test_a_standby_alone_is_refused_with_the_fix(zoo):
    zoo.see("Britain", range(3))
    edit_source(zoo, primary="")
    with pytest.raises(SourceMismatch, match=r'read from a hot standby.*Add primary="…" to .*sightings\.py'):
        land(zoo)
    assert zoo.sql("SELECT 1 FROM batches") == []


def test_rows_that_commit_late_on_the_primary_are_landed_from_the_standby(zoo):
    with closing(psycopg2.connect(zoo.shop)) as late:
        late.cursor().execute(INSERT, (7001,))
        zoo.see("Britain", range(3))
        with pytest.raises(NothingToDo, match="client backend, idle in transaction"):
            land(zoo)
        late.commit()
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)


def test_rows_of_a_transaction_prepared_on_the_primary_are_landed_from_the_standby(zoo):
    with closing(psycopg2.connect(zoo.shop)) as late:
        late.cursor().execute(INSERT, (7001,))
        late.cursor().execute("PREPARE TRANSACTION 'late'")
    zoo.see("Britain", range(3))
    with pytest.raises(NothingToDo, match="prepared transaction late"):
        land(zoo)
    execute(zoo.shop, "COMMIT PREPARED 'late'")
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)


def test_a_standby_that_is_behind_is_not_read_past_what_it_shows(zoo, pair, monkeypatch):
    monkeypatch.setattr(postgres_source, "REPLAY_SECONDS", 0.3)
    with pair.paused_replay():
        zoo.see("Britain", range(3))
        with pytest.raises(
            NothingToDo, match="has not replayed what its primary has committed: it shows what was committed up to"
        ):
            land(zoo)
    monkeypatch.undo()
    assert land(zoo) == {"GB": 60}
    assert is_landed_exactly_once(zoo)


def test_a_standby_that_is_behind_for_long_is_on_record_until_it_follows(zoo, pair, monkeypatch):
    zoo.see("Britain", range(3))
    pair.await_replay()
    land(zoo)
    monkeypatch.setattr(postgres_source, "REPLAY_SECONDS", 0.3)
    recorded = "SELECT reason, ended_at IS NULL AS is_open FROM causes WHERE kind = 'held back'"
    with pair.paused_replay():
        zoo.see("Britain", range(3, 6))
        with pytest.raises(NothingToDo):
            land(zoo)
        assert zoo.sql(recorded) == []
        monkeypatch.setattr(causes, "LONGEST_BEHIND", timedelta(0))
        for _ in range(2):
            with pytest.raises(NothingToDo):
                land(zoo)
    ((reason, is_open),) = zoo.sql(recorded)
    assert (reason.startswith("Nothing was landed since 20"), is_open) == (True, True)
    assert "the standby has not replayed what its primary has committed" in reason
    monkeypatch.undo()
    assert land(zoo) == {"GB": 60}
    assert [row.is_open for row in zoo.sql(recorded)] == [False]


def test_many_landings_from_the_standby_hold_every_change_once(zoo):
    with closing(psycopg2.connect(zoo.shop)) as late:
        for day in range(8):
            zoo.see("Britain", range(day, day + 1), per_day=3)
            late.cursor().execute(INSERT, (7000 + day,))
            if day % 3 == 2:
                late.commit()
            with suppress(NothingToDo):
                land(zoo)
        late.commit()
    land(zoo)
    assert len(landed_changes(zoo)) == 8 * 4
    assert is_landed_exactly_once(zoo)


def test_the_primary_of_another_server_is_refused(zoo, postgres, new_database):
    dsns = {"zoo_db": zoo.resources.source_dsn("zoo_db"), "zoo_primary": new_database(None)}
    zoo.resources = replace(zoo.resources, source_dsn=dsns.__getitem__)
    with pytest.raises(SourceMismatch, match="leads to a standby, but not to one of the server behind connection zoo_primary"):
        land(zoo)


def test_a_primary_that_is_a_standby_itself_is_refused(zoo):
    edit_source(zoo, primary="zoo_db")
    with pytest.raises(SourceMismatch, match="connection zoo_db leads to a standby, too"):
        land(zoo)


def test_an_unreachable_primary_is_named(zoo):
    dsns = {"zoo_db": zoo.resources.source_dsn("zoo_db"), "zoo_primary": "host=/nowhere"}
    zoo.resources = replace(zoo.resources, source_dsn=dsns.__getitem__)
    with pytest.raises(SourceError, match="cannot be reached through connection zoo_primary"):
        land(zoo)


def test_the_primarys_role_needs_no_right_on_the_table_but_to_see_who_is_open(zoo, pair):
    zoo.see("Britain", range(3))
    execute(zoo.shop, "CREATE ROLE watcher LOGIN")
    dsns = {"zoo_db": zoo.resources.source_dsn("zoo_db"), "zoo_primary": make_dsn(zoo.shop, user="watcher")}
    zoo.resources = replace(zoo.resources, source_dsn=dsns.__getitem__)
    with closing(psycopg2.connect(zoo.shop)), pytest.raises(SourceMismatch, match="connection zoo_primary cannot see"):
        land(zoo)
    execute(zoo.shop, "GRANT pg_read_all_stats TO watcher")
    assert land(zoo) == {"GB": 60}
