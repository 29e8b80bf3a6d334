"""A backfill reads what was known at its time; and a snapshot is looked up in one piece."""

import pytest
from toolbox import DAY, GB, START, champion, cycle, execute, predict, reader

from perennial.errors import StoreError
from perennial.shell.lake import Reader
from perennial.steps import material
from perennial.steps.quarantine import accept_batch, retract_batch

SAID = {"person": "ann", "reason": "looked at it"}
CORRECTED = """
INSERT INTO sightings (id, changed_at, seen_at, country, length, weight)
SELECT id, %s, seen_at, country, length, -weight FROM sightings WHERE seen_at < %s
"""


def written_then(zoo):
    """Have what is written of an event be written on the next day."""
    execute(zoo.shop, "UPDATE sightings SET changed_at = seen_at + interval '1 day'")


def landed_first(zoo, moment):
    """Have Britain's first landing have been at a time of the past."""
    zoo.sql("ALTER TABLE batches DISABLE TRIGGER guard_batch")
    zoo.sql("UPDATE batches SET upper = %s WHERE country = 'GB' AND seq = 1", moment)


def at_ten(zoo):
    """What the champion in force says of a length of 10."""
    return predict(reader(zoo).load(*GB), 10.0)


def test_a_revision_of_later_is_not_read(zoo):
    zoo.see("Britain", range(90))
    written_then(zoo)
    execute(zoo.shop, CORRECTED, START + 100 * DAY, START + 65 * DAY)
    zoo.ingest()
    assert zoo.retrain(as_of=START + 70 * DAY)["weight/GB"].state == "published"
    assert at_ten(zoo) == pytest.approx(20, abs=1)


def test_what_was_written_down_later_is_read_of_a_time_before_the_first_landing(zoo):
    zoo.see("Britain", range(90))
    zoo.ingest()
    assert zoo.retrain(as_of=START + 70 * DAY)["weight/GB"].state == "published"
    assert at_ten(zoo) == pytest.approx(20, abs=1)


def test_what_was_written_down_later_is_not_read_of_a_time_after_the_first_landing(zoo):
    zoo.see("Britain", range(90))
    written_then(zoo)
    execute(zoo.shop, "UPDATE sightings SET changed_at = now() WHERE seen_at > %s", START + 60 * DAY)
    zoo.ingest()
    landed_first(zoo, START + 1 * DAY)
    zoo.retrain(as_of=START + 70 * DAY)
    (snapshot,) = zoo.sql("SELECT rows, known_until FROM snapshots WHERE id = %s", champion(zoo).snapshot)
    assert (snapshot.rows, snapshot.known_until) == (60 * 20, START + 70 * DAY)
    (verdict,) = zoo.sql("SELECT as_of FROM verdicts")
    assert verdict.as_of < START + 60 * DAY


def test_ordinary_runs_have_no_such_limit_and_the_ids_they_always_had(zoo):
    cycle(zoo)
    (row,) = zoo.sql("SELECT id, source, country, last_seq, excluded, window_start, window_end, known_until FROM snapshots")
    facts = {**row._asdict(), "excluded": tuple(row.excluded)}
    assert row.known_until is None
    assert material.Snapshot(**{name: fact for name, fact in facts.items() if name != "id"}).id == row.id


@pytest.fixture
def between(monkeypatch):
    """Has something done between the two look-ups of a snapshot."""

    def do(something):
        waiting, fetch = [something], material.fetch

        def fetch_later(database, query, **facts):
            if waiting and query in ("objects_of", "batches_of"):
                waiting.pop()()
            return fetch(database, query, **facts)

        monkeypatch.setattr(material, "fetch", fetch_later)

    return do


def held_second(zoo):
    """Britain's second batch is held, the third one accepted."""
    cycle(zoo)
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    zoo.sql("ALTER TABLE batches DISABLE TRIGGER guard_batch")
    zoo.sql("UPDATE batches SET state = 'quarantined', reason = 'odd' WHERE (country, seq) = ('GB', 2)")
    zoo.see("Britain", range(90, 120))
    zoo.ingest()


def rows_read(monkeypatch):
    """The objects of each reading."""
    read, rows = [], Reader.rows

    def noted(self, batches, *given, **named):
        read.append([batch.object_key for batch in batches])
        return rows(self, batches, *given, **named)

    monkeypatch.setattr(Reader, "rows", noted)
    return read


def test_what_is_decided_between_the_look_ups_of_a_snapshot_is_in_both_or_in_none(zoo, between, monkeypatch):
    held_second(zoo)
    read = rows_read(monkeypatch)
    between(lambda: accept_batch(zoo.resources, "sightings", "GB", 2, **SAID))
    assert zoo.retrain()["weight/GB"].state == "published"
    assert [len(objects) for objects in read] == [2, 3]  # judged again, as it was decided meanwhile
    assert zoo.sql("SELECT excluded FROM snapshots WHERE id = %s", champion(zoo).snapshot) == [([],)]


def test_what_is_read_from_the_batches_has_a_snapshot_of_its_own(zoo, monkeypatch):
    cycle(zoo)
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    rows, broken = Reader.rows, [True]
    monkeypatch.setattr(material, "all", lambda _: False, raising=False)  # as if they were compactions

    def lost(self, *given, **named):
        if broken:
            broken.pop()
            retract_batch(zoo.resources, "sightings", "GB", 2, **SAID)
            raise StoreError("A compaction is lost.")
        return rows(self, *given, **named)

    monkeypatch.setattr(Reader, "rows", lost)
    zoo.retrain(force=True)
    newest = zoo.sql("SELECT last_seq, excluded FROM snapshots ORDER BY created_at DESC LIMIT 1")
    assert newest == [(2, [2])]
