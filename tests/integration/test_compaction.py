"""Small batches put together: a reading sees the very same rows, whatever was decided, damaged, killed or done twice."""

import os
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from random import Random

import pandas as pd
import pyarrow.parquet as pq
import pytest
from psycopg2 import errors
from psycopg2.extras import Json
from toolbox import champion, edit_source, execute

from perennial import Checks, Column
from perennial.core import compaction as policy
from perennial.errors import NothingToDo, StoreError
from perennial.shell import lake
from perennial.shell.database import connect, fetch_one
from perennial.shell.lake import Reader
from perennial.shell.store import open_store
from perennial.steps import compact as step
from perennial.steps import ingest, quarantine
from perennial.steps.audit import audit

ROW = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, %s, %s, %s, %s)"
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ALWAYS = (START - 1000 * DAY, START + 1000 * DAY)
WINDOWS = (ALWAYS, (START + 5 * DAY, START + 17 * DAY), (START + 12 * DAY, START + 400 * DAY), (START - DAY, START + 3 * DAY))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Four batches are enough for an object, and row groups are small."""
    monkeypatch.setattr(policy, "LEAST", 4)
    monkeypatch.setattr(lake, "GROUP_ROWS", 45)


@pytest.fixture(params=["file", "s3"])
def stored(request, zoo, tmp_path):
    """A zoo on a store of each kind."""
    if request.param == "s3":
        zoo.resources = replace(zoo.resources, store=open_store(f"s3://bucket/{tmp_path.name}", request.getfixturevalue("s3")))
    return zoo


def land(zoo, day, country="Britain"):
    """One batch more, not decided yet."""
    zoo.see(country, range(day, day + 1), per_day=5)
    ingest.land(zoo.resources, zoo.catalog.source("sightings"))


def accept(zoo, after=0):
    """Accept what was landed, as a validation does, without its seconds."""
    zoo.sql("UPDATE batches SET state = 'accepted', decided_at = now(), report = %s WHERE state = 'landed' AND seq > %s",
            Json({"findings": [{"success": True, "severity": "critical"}]}), after)  # fmt: skip


def landed(zoo, number, first=0, country="Britain"):
    """So many accepted batches more, of a day each."""
    for day in range(first, first + number):
        land(zoo, day, country)
    accept(zoo)


def validated(zoo, day, **how):
    """One batch more, decided by its rows."""
    zoo.see("Britain", range(day, day + 1), per_day=5, **how)
    zoo.ingest()


def compact(zoo):
    return step.compact(zoo.resources, zoo.catalog)


def objects(zoo, query="objects_of", window=ALWAYS, country="GB"):
    (last,) = zoo.rows("last_decided", source="sightings", country=country)
    asked = {"source": "sightings", "country": country, "last_seq": last.last_seq, "start": window[0], "end": window[1]}
    return zoo.rows(query, **asked)


def rows(zoo, found, window=ALWAYS):
    source = zoo.catalog.source("sightings")
    names = [column.name for column in source.columns]
    return Reader(zoo.resources.store, source, names).rows(found, names, *window)


def is_read_the_same(zoo, country="GB"):
    """Whether every window shows the very same rows in the same order, through compactions or without."""
    for window in WINDOWS:
        plain, through = (rows(zoo, objects(zoo, query, window, country), window) for query in ("batches_of", "objects_of"))
        pd.testing.assert_frame_equal(through, plain)
    return True


def ranges(zoo, country="GB"):
    """The compactions that are read, from batch to batch."""
    found = zoo.sql("SELECT * FROM compactions_in_force('sightings', %s, 1000) ORDER BY first_seq", country)
    return [(row.first_seq, row.last_seq) for row in found]


def keys(zoo):
    return set(zoo.resources.store.keys("compactions/"))


def recorded(zoo):
    return {row.object_key for row in zoo.sql("SELECT object_key FROM compactions")}


def test_small_batches_become_one_object_that_is_read_in_their_place(stored):
    landed(stored, 6)
    assert compact(stored) == {"made": 1, "read": 6, "removed": 0}
    (found,) = objects(stored)
    assert (found.batches, found.rows) == (6, 30)
    assert is_read_the_same(stored)
    assert audit(stored.resources, stored.catalog, deep=True) == []


def test_it_grows_with_the_ledger_and_countries_stay_apart(zoo):
    for first in range(0, 16, 4):
        landed(zoo, 4, first)
        landed(zoo, 2, first, "France")
        compact(zoo)
        assert is_read_the_same(zoo)
        assert is_read_the_same(zoo, "FR")
    assert ranges(zoo) == [(1, 12), (13, 16)]
    assert [row.batches for row in objects(zoo, country="FR")] == [8]


def broken(zoo, random):
    """A batch with a row that is rejected."""
    execute(zoo.shop, ROW, 9_000_000 + random.randrange(10**6), "2026-01-05", "Britain", float("inf"), 2)
    validated(zoo, 9)


def decided(zoo, random, state, decide):
    """Decide about one of the batches in a state, if there is one."""
    found = zoo.sql("SELECT seq FROM batches WHERE state = %s ORDER BY seq", state)
    if len(found) > 1:
        decide(zoo.resources, "sightings", "GB", random.choice(found).seq, "ann", "so it is")


ACTIONS = {
    "next": lambda zoo, random: landed(zoo, random.randrange(1, 4), 10 + random.randrange(15)),
    "late": lambda zoo, random: landed(zoo, 1, random.randrange(3)),
    "broken": broken,
    "held": lambda zoo, random: validated(zoo, 20, noise=1e6),
    "retract": lambda zoo, random: decided(zoo, random, "accepted", quarantine.retract_batch),
    "accept": lambda zoo, random: decided(zoo, random, "quarantined", quarantine.accept_batch),
    "compact": lambda zoo, random: compact(zoo),
}
ODDS = {"next": 6, "late": 2, "broken": 1, "held": 1, "retract": 1, "accept": 1, "compact": 3}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_same_rows_are_read_in_the_same_order(zoo, seed):
    random, used = Random(seed), set()  # noqa: S311 - a test's choices are no secret
    edit_source(zoo, checks=Checks(max_rejected=0.5))
    landed(zoo, 3)
    for name in random.choices(list(ODDS), list(ODDS.values()), k=30):
        ACTIONS[name](zoo, random)
        used |= set(ranges(zoo))
        assert is_read_the_same(zoo), name
    compact(zoo)
    assert is_read_the_same(zoo)
    assert len(used) > 1
    assert len(objects(zoo)) < len(objects(zoo, "batches_of")) / 2
    assert audit(zoo.resources, zoo.catalog, deep=True) == []


def test_rows_that_a_file_removes_are_read_as_removed(zoo, tmp_path):
    from toy_files import sightings_files

    drop = open_store((tmp_path / "drop").as_uri())
    zoo.resources = replace(zoo.resources, source_store=lambda name: drop)
    zoo.catalog = replace(zoo.catalog, sources={"sightings": sightings_files})
    for number in range(8):
        kept = [f"{key},2026-01-0{1 + number}T10:00:00Z,Britain,1.5,{number}.0" for key in range(9 - number)]
        drop.put("in/a.csv", "\n".join(["id,seen_at,country,length,weight", *kept, ""]).encode())
        zoo.ingest()
    assert compact(zoo)["made"] == 1
    assert is_read_the_same(zoo)
    assert sorted(rows(zoo, objects(zoo))["id"]) == [0, 1]


def test_what_is_retracted_is_not_read_and_the_rest_is_put_together_anew(zoo):
    landed(zoo, 8)
    compact(zoo)
    quarantine.retract_batch(zoo.resources, "sightings", "GB", 3, "ann", "a broken scale")
    assert (ranges(zoo), len(objects(zoo))) == ([], 7)
    assert compact(zoo)["made"] == 1
    (found,) = objects(zoo)
    assert (found.batches, found.rows) == (7, 35)
    assert is_read_the_same(zoo)


def test_what_is_accepted_late_is_read_at_its_place(zoo):
    landed(zoo, 3)
    validated(zoo, 3, noise=1e6)
    landed(zoo, 4, 4)
    compact(zoo)
    assert [row.batches for row in objects(zoo)] == [7]
    quarantine.accept_batch(zoo.resources, "sightings", "GB", 4, "ann", "a heavy animal")
    assert len(objects(zoo)) == 8
    compact(zoo)
    assert [row.batches for row in objects(zoo)] == [8]
    assert is_read_the_same(zoo)


def test_nothing_reaches_past_a_batch_that_is_not_validated_yet(zoo):
    landed(zoo, 4)
    for day in range(4, 12):
        land(zoo, day)
    accept(zoo, after=5)
    compact(zoo)
    assert ranges(zoo) == [(1, 4)]
    accept(zoo)
    compact(zoo)
    assert ranges(zoo) == [(1, 12)]


def test_the_snapshot_is_the_same_one(zoo):
    landed(zoo, 60)
    assert zoo.retrain()["weight/GB"].state == "published"
    before = champion(zoo).snapshot
    compact(zoo)
    outcome = zoo.retrain(force=True)["weight/GB"]
    assert (outcome.state, outcome.reason) == ("skipped", "Nothing has changed: the champion is this very version.")
    assert len(objects(zoo)) == 1
    assert [row.id for row in zoo.sql("SELECT id FROM snapshots")] == [before]


def test_a_window_passes_by_what_lies_before_it_also_where_rows_were_late(zoo, monkeypatch):
    landed(zoo, 12, 20)
    landed(zoo, 1)
    landed(zoo, 12, 32)
    compact(zoo)
    (found,) = objects(zoo)
    source = zoo.catalog.source("sightings")
    read, original = set(), pq.ParquetFile.read_row_group

    def noted(file, number, **how):
        read.add(number)
        return original(file, number, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    rows = Reader(zoo.resources.store, source, ["seen_at"]).rows([found], ["seen_at"], START + 40 * DAY, ALWAYS[1])
    assert rows["seen_at"].min() >= START + 40 * DAY
    with lake.open_batch(zoo.resources.store, found.object_key, found.sha256) as file:
        assert 0 < len(read) < file.num_row_groups / 2


def test_other_columns_begin_another_object(zoo):
    landed(zoo, 5)
    source = zoo.catalog.source("sightings")
    execute(zoo.shop, "ALTER TABLE sightings ADD COLUMN mood text")
    edit_source(zoo, columns=(*source.columns, Column("mood", "string")))
    landed(zoo, 5, 5)
    compact(zoo)
    assert ranges(zoo) == [(1, 5), (6, 10)]
    edit_source(zoo, columns=source.columns)
    assert is_read_the_same(zoo)


def test_running_it_again_or_twice_at_once_changes_nothing(zoo):
    landed(zoo, 6)
    compact(zoo)
    before = keys(zoo)
    assert compact(zoo) == {"made": 0, "read": 0, "removed": 0}
    busy = connect(zoo.resources.database)
    assert fetch_one(busy, "lock_compacting").locked
    with pytest.raises(NothingToDo):
        compact(zoo)
    busy.close()
    assert keys(zoo) == before == recorded(zoo)


def test_one_run_reads_so_many_objects_and_the_next_goes_on(zoo, monkeypatch):
    landed(zoo, 5)
    landed(zoo, 5, 0, "France")
    monkeypatch.setattr(step, "OBJECTS", 5)
    assert [compact(zoo)["read"] for _ in range(3)] == [5, 5, 0]
    assert (ranges(zoo), ranges(zoo, "FR")) == ([(1, 5)], [(1, 5)])


def test_a_batch_that_cannot_be_read_stops_its_country_only(zoo):
    landed(zoo, 5)
    landed(zoo, 5, 0, "France")
    (lost,) = zoo.sql("SELECT object_key FROM batches WHERE (country, seq) = ('FR', 2)")
    zoo.resources.store.delete(lost.object_key)
    with pytest.raises(StoreError, match=r"sightings/FR: .* is not in the store"):
        compact(zoo)
    assert (ranges(zoo), ranges(zoo, "FR")) == ([(1, 5)], [])


def test_a_decision_while_it_is_made_leaves_it_to_the_next_run(zoo, monkeypatch):
    landed(zoo, 6)
    made = step.put_together

    def overtaken(*given):
        file = made(*given)
        if not zoo.sql("SELECT seq FROM batch_decisions"):
            quarantine.retract_batch(zoo.resources, "sightings", "GB", 2, "ann", "a broken scale")
        return file

    monkeypatch.setattr(step, "put_together", overtaken)
    compact(zoo)
    assert (ranges(zoo), len(keys(zoo))) == ([], 1)
    compact(zoo)
    assert (ranges(zoo), len(objects(zoo))) == ([(1, 6)], 1)
    assert is_read_the_same(zoo)


def wait_for_lock(zoo):
    """The server notices soon that a session is gone, and with it its lock."""
    deadline = time.monotonic() + 10
    held = (
        "SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
        "WHERE l.locktype = 'advisory' AND d.datname = current_database()"
    )
    while zoo.sql(held):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def dying(where, name, after):
    """Kill the process at the first call of something, before or after it has been done."""
    original = getattr(where, name)

    def call(*given, **values):
        if after:
            original(*given, **values)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(where, name, call)


MOMENTS = {
    "reading": lambda zoo: dying(lake, "tables", after=True),
    "before it is stored": lambda zoo: dying(zoo.resources.store, "put_file", after=False),
    "stored, not recorded": lambda zoo: dying(zoo.resources.store, "put_file", after=True),
    "recorded": lambda zoo: dying(step, "_record", after=True),
    "a row removed, its object not": lambda zoo: dying(zoo.resources.store, "delete", after=False),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_nothing_wrong(stored, moment, monkeypatch):
    landed(stored, 5)
    compact(stored)
    landed(stored, 5, 5)

    def killed():
        step.KEEP = timedelta(0) if "removed" in moment else step.KEEP
        MOMENTS[moment](stored)
        compact(stored)
        compact(stored)

    process = get_context("fork").Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    wait_for_lock(stored)
    assert recorded(stored) <= keys(stored)
    assert is_read_the_same(stored)
    assert audit(stored.resources, stored.catalog, deep=True) == []
    monkeypatch.setattr(step, "KEEP", timedelta(0))
    compact(stored)
    compact(stored)
    assert ranges(stored) == [(1, 10)]
    assert recorded(stored) == keys(stored)
    assert len(keys(stored)) == 1
    assert is_read_the_same(stored)


def test_what_was_overtaken_is_removed_a_day_later(stored, monkeypatch):
    landed(stored, 4)
    compact(stored)
    given, before = objects(stored), rows(stored, objects(stored))
    landed(stored, 4, 4)
    compact(stored)
    quarantine.retract_batch(stored.resources, "sightings", "GB", 2, "ann", "a broken scale")
    compact(stored)
    assert len(keys(stored)) == 3
    pd.testing.assert_frame_equal(rows(stored, given), before)
    monkeypatch.setattr(step, "KEEP", timedelta(0))
    assert compact(stored)["removed"] == 2
    assert keys(stored) == recorded(stored) == {row.object_key for row in objects(stored)}
    assert is_read_the_same(stored)


def test_what_was_overtaken_lately_stays_whenever_it_was_made(zoo):
    landed(zoo, 4)
    compact(zoo)
    zoo.sql("SET session_replication_role = replica; UPDATE compactions SET made_at = now() - interval '3 days'")
    landed(zoo, 4, 4)
    compact(zoo)
    assert compact(zoo)["removed"] == 0
    zoo.sql("SET session_replication_role = replica; UPDATE compactions SET made_at = made_at - interval '3 days'")
    assert compact(zoo)["removed"] == 0
    zoo.sql("SET session_replication_role = replica; UPDATE batches SET decided_at = decided_at - interval '3 days'")
    for key in keys(zoo):
        os.utime(zoo.resources.store.root / key, (0, 0))
    assert compact(zoo)["removed"] == 1
    assert ranges(zoo) == [(1, 8)]


def lose(zoo, key):
    zoo.resources.store.delete(key)


def alter(zoo, key):
    zoo.resources.store.put(key, b"?" + zoo.resources.store.get(key)[1:])


@pytest.mark.parametrize("harm", [lose, alter])
def test_a_compaction_that_is_lost_or_altered_costs_time_only(zoo, harm, caplog):
    landed(zoo, 60)
    compact(zoo)
    (key,) = keys(zoo)
    harm(zoo, key)
    assert zoo.retrain()["weight/GB"].state == "published"
    assert "weight/GB is read from the batches" in caplog.text
    assert {violation.rule for violation in audit(zoo.resources, zoo.catalog)} == {2}
    zoo.sql("DELETE FROM compactions WHERE %s", harm is alter)
    assert compact(zoo)["made"] == 1
    assert is_read_the_same(zoo)
    assert audit(zoo.resources, zoo.catalog, deep=True) == []


def test_a_batch_that_is_lost_fails_its_cells_with_or_without_compactions(zoo):
    landed(zoo, 60)
    (lost,) = zoo.sql("SELECT object_key FROM batches WHERE seq = 60")
    zoo.edit(attempts=1)
    zoo.resources.store.delete(lost.object_key)
    run_id = zoo.plan()
    zoo.train(run_id)
    assert lost.object_key in zoo.outcomes(run_id)["weight/GB"].reason


COPY = """
INSERT INTO compactions (source, country, first_seq, last_seq, excluded, batches, rows, object_key, sha256, size)
SELECT source, country, first_seq, last_seq, {excluded}, {batches}, {rows}, 'k', sha256, size FROM compactions
"""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE compactions SET rows = rows",
        "TRUNCATE compactions",
        COPY.format(excluded="'{2}'", batches="batches - 1", rows="rows"),
        COPY.format(excluded="excluded", batches="batches", rows="rows + 1"),
    ],
)
def test_what_a_compaction_holds_never_changes_and_is_what_is_read(zoo, statement):
    landed(zoo, 5)
    compact(zoo)
    with pytest.raises(errors.RestrictViolation):
        zoo.sql(statement)


def test_any_compaction_may_be_dropped_and_is_made_anew(zoo):
    landed(zoo, 5)
    compact(zoo)
    zoo.sql("DELETE FROM compactions")
    assert len(objects(zoo)) == 5
    assert compact(zoo)["made"] == 1
    assert ranges(zoo) == [(1, 5)]
