"""A batch that is decided about while a cell trains: no version is published on rows that are not read any more."""

import threading
import time
from collections import Counter
from contextlib import closing

import numpy as np
import psycopg2
import pytest
from toolbox import GB, champion, cycle, execute, releases, states

from perennial.errors import StaleVerdict
from perennial.shell.database import connect
from perennial.shell.registry import publish
from perennial.steps import cell
from perennial.steps.audit import audit
from perennial.steps.quarantine import accept_batch, extract_again, retract_batch

SAID = {"person": "ann", "reason": "looked at it"}
BATCH = """
INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max, object_key, sha256, size,
                     state, report, decided_at)
SELECT source, country, seq + 1, upper, upper + interval '1 second', reach, rows, event_min, event_max, object_key, sha256,
       size, 'accepted', report, now()
FROM batches WHERE country = 'GB' ORDER BY seq DESC LIMIT 1 RETURNING seq
"""
VERSION = """
WITH reading AS (
    INSERT INTO snapshots (id, source, country, last_seq, excluded, window_start, window_end, rows)
    SELECT lpad(%(seq)s::text, 64, 's'), source, country, %(seq)s, unread_of(source, country, 1, %(seq)s), window_start,
           window_end + interval '1 year', rows
    FROM snapshots LIMIT 1 RETURNING id)
INSERT INTO versions (id, model, country, snapshot, recipe, parameters, seed, environment, metrics, judged_until, served_until,
                      artifact_key, sha256, size)
SELECT lpad(%(seq)s::text, 64, 'v'), model, country, (SELECT id FROM reading), recipe, parameters, seed, environment, metrics,
       judged_until, served_until, artifact_key, sha256, size
FROM versions WHERE country = 'GB' AND artifact_key IS NOT NULL LIMIT 1
RETURNING id
"""
VERDICT = """
INSERT INTO verdicts (challenger, model, country, against_seq, window_start, window_end, as_of, rows, clusters, decision, gates,
                      reason)
SELECT %(version)s, model, country, %(against)s, window_start, window_end, as_of, rows, clusters, 'promote', gates, reason
FROM verdicts WHERE country = 'GB' LIMIT 1 RETURNING id
"""


@pytest.fixture
def trained(zoo):
    """Two batches of Britain, the first trained on and published."""
    cycle(zoo)
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    return zoo


@pytest.fixture
def meanwhile(monkeypatch):
    """Has something done once, amidst the next fit."""

    def do(something):
        waiting, fit = [something], cell.fit

        def fit_and_more(*given):
            if waiting:
                waiting.pop()()
            return fit(*given)

        monkeypatch.setattr(cell, "fit", fit_and_more)

    return do


def read_by_champion(zoo):
    """Up to which batch the champion read, and without which ones."""
    (row,) = zoo.sql("SELECT last_seq, excluded FROM snapshots WHERE id = %s", champion(zoo).snapshot)
    return row.last_seq, row.excluded


def hold(zoo, seq):
    """Put a landed batch of Britain into quarantine."""
    zoo.sql("ALTER TABLE batches DISABLE TRIGGER guard_batch")
    zoo.sql("UPDATE batches SET state = 'quarantined', reason = 'odd' WHERE (country, seq) = ('GB', %s)", seq)
    zoo.sql("ALTER TABLE batches ENABLE TRIGGER guard_batch")


def test_a_batch_retracted_during_the_fit_is_not_in_what_is_published(trained, meanwhile):
    meanwhile(lambda: retract_batch(trained.resources, "sightings", "GB", 2, **SAID))
    trained.retrain()
    assert [read_by_champion(trained), len(releases(trained))] == [(1, []), 1]
    trained.see("Britain", range(90, 120))
    trained.ingest()
    assert trained.retrain()["weight/GB"].state == "published"
    assert read_by_champion(trained) == (3, [2])
    assert audit(trained.resources, trained.catalog) == []


def test_a_batch_accepted_during_the_fit_is_in_what_is_published(trained, meanwhile):
    hold(trained, 2)
    trained.see("Britain", range(90, 120))
    trained.ingest()
    meanwhile(lambda: accept_batch(trained.resources, "sightings", "GB", 2, **SAID))
    assert trained.retrain()["weight/GB"].state == "published"
    assert read_by_champion(trained) == (3, [])


def test_a_batch_replaced_during_the_fit_is_read_in_its_new_form(trained, meanwhile):
    def replace():
        retract_batch(trained.resources, "sightings", "GB", 2, **SAID)
        extract_again(trained.resources, trained.catalog.source("sightings"), "GB", 2, **SAID)

    meanwhile(replace)
    assert trained.retrain()["weight/GB"].state == "published"
    assert read_by_champion(trained) == (3, [2])


def test_a_cell_whose_batches_never_come_to_rest_is_given_up(trained, monkeypatch):
    for day in range(90, 120):
        trained.see("Britain", range(day, day + 1))
        trained.ingest()
    left, refit = iter(range(2, 32)), cell._refit

    def refit_and_retract(*given):
        retract_batch(trained.resources, "sightings", "GB", next(left), **SAID)
        return refit(*given)

    monkeypatch.setattr(cell, "_refit", refit_and_retract)
    run_id = trained.plan()
    trained.train(run_id)
    assert states(trained, run_id)["weight/GB"] == "failed"
    assert "was judged" in trained.outcomes(run_id)["weight/GB"].reason
    assert len(releases(trained)) == 1


def test_a_version_that_was_not_released_breaks_no_rule_when_its_batch_is_retracted(trained, monkeypatch):
    monkeypatch.setattr(cell, "_publish", lambda *_: cell.Outcome(state="blocked", reason="not now"))
    trained.retrain(force=True)
    retract_batch(trained.resources, "sightings", "GB", 2, **SAID)
    trained.sql("ALTER TABLE snapshots DISABLE TRIGGER keep_snapshots")
    trained.sql("UPDATE snapshots SET created_at = now() + interval '1 hour'")
    assert audit(trained.resources, trained.catalog) == []


def candidate(zoo):
    """A further batch, and the release that a verdict on a version that read it would be judged against."""
    (batch,) = zoo.sql(BATCH)
    return {"seq": batch.seq, "last": releases(zoo)[-1]}


def release(zoo, seq, last, pause=lambda: None):
    """Record a version that reads the batch, and publish it; whether it was released."""
    with closing(connect(zoo.resources.database)) as database, database.cursor() as cursor:
        cursor.execute(VERSION, {"seq": seq})
        version = cursor.fetchone().id
        cursor.execute(VERDICT, {"version": version, "against": last.seq})
        verdict = cursor.fetchone().id
        pause()
        facts = {"champion": last.to_version, "challenger": version, "verdict": verdict, "reason": "better", "run_id": None}
        try:
            publish(database, GB, against_seq=last.seq, **facts)
        except StaleVerdict:
            return False
    return True


def retract(zoo, seq):
    return retract_batch(zoo.resources, "sightings", "GB", seq, **SAID)


def in_thread(results, name, call):
    thread = threading.Thread(target=lambda: results.update({name: call()}))
    thread.start()
    return thread


def waits_for_lock(dsn):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            if cursor.fetchone()[0]:
                return True
        time.sleep(0.01)
    return False


def test_a_release_waits_for_a_retraction_under_way_and_is_refused(trained):
    made, results, recorded, retracted = candidate(trained), {}, threading.Event(), threading.Event()

    def pause():
        recorded.set()
        retracted.wait(20)

    thread = in_thread(results, "released", lambda: release(trained, **made, pause=pause))
    assert recorded.wait(20)
    with closing(psycopg2.connect(trained.resources.database)) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE perennial.batches SET state = 'retracted' WHERE (country, seq) = ('GB', %s)", (made["seq"],))
        retracted.set()
        assert waits_for_lock(trained.resources.database)
        connection.commit()
    thread.join(20)
    assert results == {"released": False}
    assert releases(trained)[-1] == made["last"]


def test_a_retraction_waits_for_a_release_under_way_and_names_its_version(trained):
    made, results = candidate(trained), {}
    with closing(psycopg2.connect(trained.resources.database)) as connection, connection.cursor() as cursor:
        cursor.execute("SET search_path = perennial")
        cursor.execute(VERSION, {"seq": made["seq"]})
        (version,) = cursor.fetchone()
        connection.commit()
        cursor.execute("SELECT check_still_read(%s)", (version,))
        thread = in_thread(results, "tainted", lambda: retract(trained, made["seq"]))
        assert waits_for_lock(trained.resources.database)
        connection.commit()
    thread.join(20)
    assert [each.version for each in results["tainted"]] == [version]


def meet(zoo, recorded_for, retracted_after):
    """Let a release and a retraction of what it read meet after some seconds; whether it was released, unnamed or not."""
    made, results = candidate(zoo), {}
    thread = in_thread(results, "released", lambda: release(zoo, **made, pause=lambda: time.sleep(recorded_for)))
    time.sleep(retracted_after)
    tainted = {each.version for each in retract(zoo, made["seq"])}
    thread.join(20)
    is_named = releases(zoo)[-1].to_version in tainted
    return results["released"], is_named


def test_however_releases_and_retractions_meet_each_released_version_is_named(trained):
    dice = np.random.default_rng(11)
    ends = Counter(meet(trained, *(dice.uniform(0, 0.03, 2) * dice.integers(0, 2, 2))) for _ in range(120))
    assert ends[True, True] > 0 < ends[False, False]
    assert ends[True, False] == 0
    assert [found for found in audit(trained.resources, trained.catalog) if "retracted before" in str(found)] == []


def test_a_release_of_a_version_that_reads_a_retracted_batch_breaks_rule_7(trained):
    made = candidate(trained)
    assert release(trained, **made)
    retract(trained, made["seq"])
    execute(trained.resources.database, "ALTER TABLE perennial.releases DISABLE TRIGGER keep_releases")
    trained.sql("UPDATE releases SET released_at = now() + interval '1 minute' WHERE seq = %s", made["last"].seq + 1)
    found = [str(each) for each in audit(trained.resources, trained.catalog)]
    assert any(
        f"release 2 is of a version that read batch {made['seq']} of sightings/GB, which was retracted" in each
        for each in found
    )
