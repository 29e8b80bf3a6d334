"""A landing ends before all that may still commit, says who holds it back, and counts the rows that it never takes."""

import shutil
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from replicas import SETTINGS, ask, cut_off
from toolbox import TABLE, edit_source, execute, is_landed_exactly_once, landed_changes

from embedded.postgres import Postgres
from perennial.errors import NothingToDo, SourceError, SourceMismatch
from perennial.shell import postgres_source
from perennial.spec import Seconds
from perennial.steps import ingest
from scratch import server_folder

INSERT = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, '2026-01-09', 'Britain', 1, 2)"
DATED = (
    "INSERT INTO sightings (id, changed_at, seen_at, country, length, weight) VALUES (%s, %s, '2026-01-09', 'Britain', 1, 2)"
)


@pytest.fixture(scope="module")
def server():
    """A server with prepared transactions and logical replication."""
    folder = server_folder("perennial-test-")
    made = Postgres(folder / "data", folder / "postgres.log", SETTINGS)
    made.start()
    yield made
    cut_off(made)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def zoo(server, request, open_zoo, new_database, tmp_path):
    """A zoo whose table is on that server."""
    name = f"shop_{abs(hash(request.node.name))}"
    server.create_database(name)
    made = open_zoo(server.dsn(name), new_database(), tmp_path / "store")
    execute(made.shop, TABLE)
    return made


def land(zoo):
    return ingest.land(zoo.resources, zoo.catalog.source("sightings"))


def said(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelname == level]


@contextmanager
def session(dsn, statement="", *values):
    """A session that has run a statement and leaves its transaction open."""
    with closing(psycopg2.connect(dsn)) as connection:
        if statement:
            connection.cursor().execute(statement, values)
        yield connection


def prepare(dsn, gid, *ids):
    """Prepare a transaction that wrote rows."""
    with session(dsn) as late:
        for number in ids:
            late.cursor().execute(INSERT, (number,))
        late.cursor().execute("PREPARE TRANSACTION %s", (gid,))


def test_rows_of_a_prepared_transaction_are_landed_however_long_it_was_open_before(zoo):
    zoo.see("Britain", range(3))
    land(zoo)
    with session(zoo.shop, INSERT, 7001) as late:
        zoo.see("Britain", range(3, 6))
        late.cursor().execute("SELECT pg_sleep(0.2)")
        late.cursor().execute("PREPARE TRANSACTION 'late'")
    with pytest.raises(NothingToDo, match="prepared transaction late of postgres has been prepared since"):
        land(zoo)
    execute(zoo.shop, "COMMIT PREPARED 'late'")
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)


def test_a_first_landing_beside_a_prepared_transaction_takes_nothing_that_it_could_still_precede(zoo):
    prepare(zoo.shop, "first", 7001)
    zoo.see("Britain", range(3))
    with pytest.raises(NothingToDo, match="prepared transaction first"):
        land(zoo)
    execute(zoo.shop, "COMMIT PREPARED 'first'")
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)


def test_short_prepared_transactions_one_after_the_other_delay_a_landing_by_one_ingest_only(zoo):
    for number in range(4):
        zoo.see("Britain", range(number, number + 1), per_day=5)
        prepare(zoo.shop, f"short_{number}", 7000 + number)
        try:
            land(zoo)
        except NothingToDo:
            assert number == 0
        execute(zoo.shop, f"COMMIT PREPARED 'short_{number}'")
    assert len(landed_changes(zoo)) >= 15
    land(zoo)
    assert is_landed_exactly_once(zoo)


def test_a_session_that_does_not_say_since_when_it_is_open_is_named_with_the_fix(zoo):
    zoo.see("Britain", range(3))
    execute(zoo.shop, "DROP ROLE IF EXISTS silent")
    execute(zoo.shop, "CREATE ROLE silent LOGIN SUPERUSER")
    execute(zoo.shop, "ALTER ROLE silent SET track_activities = off")
    dsn = make_dsn(zoo.shop, user="silent")
    with session(dsn, INSERT, 7001) as late:
        with pytest.raises(SourceMismatch, match=r"user silent.*ALTER ROLE silent RESET track_activities"):
            land(zoo)
        late.commit()
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)


def test_a_session_that_began_to_be_tracked_inside_its_transaction_is_not_overlooked(zoo):
    zoo.see("Britain", range(3))
    with closing(psycopg2.connect(zoo.shop, options="-c track_activities=off")) as late:
        late.cursor().execute(INSERT, (7001,))
        late.cursor().execute("SET track_activities = on")
        with pytest.raises(SourceMismatch, match="does not say since when its transaction is open"):
            land(zoo)


@contextmanager
def subscribed(server, zoo, publisher):
    """The table of the zoo subscribes to that of the publisher, a database of the same server."""
    execute(publisher, TABLE)
    execute(publisher, "CREATE PUBLICATION news FOR TABLE sightings")
    execute(publisher, "SELECT pg_create_logical_replication_slot('news', 'pgoutput')")
    facts = f"host={server.socket_folder()} user=postgres dbname=publisher"
    execute(zoo.shop, f"CREATE SUBSCRIPTION news CONNECTION '{facts}' PUBLICATION news "
                      "WITH (create_slot = false, slot_name = 'news', copy_data = false)")  # fmt: skip
    try:
        yield
    finally:
        execute(zoo.shop, "ALTER SUBSCRIPTION news DISABLE")
        execute(zoo.shop, "ALTER SUBSCRIPTION news SET (slot_name = NONE)")
        execute(zoo.shop, "DROP SUBSCRIPTION news")


SLOWLY_DATED = """
CREATE FUNCTION date_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_at := now();
    PERFORM pg_sleep(1.5) WHERE NEW.id = 7001;
    RETURN NEW;
END $$;
CREATE TRIGGER date_it BEFORE INSERT ON sightings FOR EACH ROW EXECUTE FUNCTION date_it();
ALTER TABLE sightings ENABLE ALWAYS TRIGGER date_it;
"""
AT_WORK = "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type LIKE 'logical%apply%' AND wait_event = 'PgSleep'"


def test_rows_that_a_background_worker_commits_late_are_landed(zoo, server):
    server.create_database("publisher")
    with subscribed(server, zoo, server.dsn("publisher")):
        with pytest.raises(SourceMismatch, match="logical replication writes table sightings"):
            land(zoo)
        execute(zoo.shop, SLOWLY_DATED)
        execute(server.dsn("publisher"), INSERT, 7001)
        _until(zoo, AT_WORK)
        zoo.see("Britain", range(3))
        with pytest.raises(NothingToDo, match="logical replication apply worker"):
            land(zoo)
        _until(zoo, "SELECT count(*) = 61 FROM sightings")
    assert land(zoo) == {"GB": 61}
    assert is_landed_exactly_once(zoo)


def _until(zoo, question):
    deadline = time.monotonic() + 15
    while not ask(zoo.shop, question):
        assert time.monotonic() < deadline, question
        time.sleep(0.05)


def test_who_holds_a_landing_back_is_named_and_for_how_long(zoo, caplog):
    zoo.see("Britain", range(3))
    land(zoo)
    dsn = make_dsn(zoo.shop, application_name="notebook")
    with session(dsn, "SELECT count(*) FROM sightings"):
        zoo.see("Britain", range(3, 6))
        with pytest.raises(
            NothingToDo, match=r"user postgres, application notebook, client backend, idle in transaction"
        ) as idle:
            land(zoo)
        with pytest.raises(NothingToDo):
            land(zoo)
    assert "has been open since 20" in str(idle.value)
    (warning,) = said(caplog, "WARNING")
    assert "application notebook" in warning
    assert "It is 0:00:0" in warning
    assert land(zoo) == {"GB": 60}


def test_the_lag_also_goes_before_the_start_of_an_open_transaction(zoo):
    edit_source(zoo, max_commit_lag=Seconds(1))
    with session(zoo.shop) as late:
        late.cursor().execute("SELECT now()")
        late.cursor().execute(INSERT, (7001,))
        late.cursor().execute("UPDATE sightings SET changed_at = now() - interval '0.5 seconds'")
        late.cursor().execute("SELECT pg_sleep(1.2)")
        with pytest.raises(NothingToDo):
            land(zoo)
        late.commit()
    edit_source(zoo, max_commit_lag=Seconds(0))
    assert land(zoo) == {"GB": 1}


@pytest.mark.parametrize("date", ["-infinity", "1899-12-31", "0044-03-15 BC"])
def test_rows_dated_before_the_first_landing_are_counted(zoo, caplog, date):
    zoo.see("Britain", range(3))
    execute(zoo.shop, DATED, 7001, date)
    assert land(zoo) == {"GB": 60}
    (error,) = said(caplog, "ERROR")
    assert error.startswith("sightings: 1 rows of table sightings have a changed_at before 1900")


def test_rows_dated_in_the_future_are_counted_with_the_earliest(zoo, caplog):
    zoo.see("Britain", range(3))
    for number, date in enumerate(("2999-01-01Z", "2998-01-01Z", "infinity", "12345-01-01Z")):
        execute(zoo.shop, DATED, 7001 + number, date)
    assert land(zoo) == {"GB": 60}
    (warning,) = said(caplog, "WARNING")
    assert "4 rows of table sightings have a changed_at in the future, the earliest 2998-01-01 00:00:00+00" in warning


def scans(zoo):
    ask(zoo.shop, "SELECT pg_stat_force_next_flush()")
    return ask(zoo.shop, "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'sightings'")


@pytest.mark.parametrize(("indexed", "read_whole"), [(True, 0), (False, 2)])
def test_odd_dates_are_found_by_an_index_or_looked_for_once_a_day(zoo, caplog, indexed, read_whole):
    zoo.see("Britain", range(60))
    execute(zoo.shop, DATED, 7001, "-infinity")
    if indexed:
        execute(zoo.shop, "CREATE INDEX ON sightings (changed_at)")
    execute(zoo.shop, "ANALYZE sightings")
    land(zoo)
    caplog.clear()
    before = scans(zoo)
    for _ in range(2):
        with pytest.raises(NothingToDo):
            land(zoo)
    assert scans(zoo) - before == read_whole  # without an index each extraction reads the whole table, and nothing else does
    assert len(said(caplog, "ERROR")) == (2 if indexed else 0)
    zoo.sql("UPDATE cursors SET strays_at = strays_at - interval '1 day'")
    with pytest.raises(NothingToDo):
        land(zoo)
    assert len(said(caplog, "ERROR")) == (3 if indexed else 1)


def test_a_source_connection_notices_a_vanished_host_and_bounds_what_it_waits_for(zoo):
    source = zoo.catalog.source("sightings")
    with postgres_source.connected(zoo.shop, source) as connection, connection.cursor() as cursor:
        parameters = connection.info.dsn_parameters
        shown = []
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone"):
            cursor.execute(f"SHOW {name}")
            shown.append(cursor.fetchone()[0])
    assert shown == ["1h", "30s", "10min", "UTC"]
    assert {parameters[name] for name in ("keepalives_idle", "tcp_user_timeout", "connect_timeout")} == {"30", "60000", "10"}


def test_what_a_connection_says_itself_goes_before_the_defaults(zoo):
    source = zoo.catalog.source("sightings")
    dsn = make_dsn(zoo.shop, connect_timeout=3, options="-c search_path=elsewhere")
    with postgres_source.connected(dsn, source) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('search_path'), current_setting('TimeZone')")
        assert cursor.fetchone() == ("elsewhere", "UTC")
        assert connection.info.dsn_parameters["connect_timeout"] == "3"


def test_a_locked_table_is_tried_again_later_and_not_waited_for(zoo):
    zoo.see("Britain", range(3))
    zoo.resources = replace(zoo.resources, source_dsn=lambda name: make_dsn(zoo.shop, options="-c lock_timeout=100ms"))
    with session(zoo.shop, "LOCK TABLE sightings"), pytest.raises(SourceError, match="lock timeout"):
        land(zoo)
    assert land(zoo) == {"GB": 60}
