"""Rules 1, 2 and 3: a champion is never lost, the row is the commit, a move is conditional."""

import os
import signal
import threading
from dataclasses import replace

import psycopg2
import pytest

from perennial.cell import Cell
from perennial.errors import ArtifactError, RegistryError, StaleVerdict
from perennial.shell import registry
from perennial.shell.database import connect, run
from perennial.steps import cell as cell_step
from perennial.steps import publishing
from perennial.steps.train import train
from perennial.steps.verifier import Verifier

GB = Cell("weight", "GB")
INSERT = """INSERT INTO releases (model, country, seq, from_version, to_version, kind, verdict, person, reason)
            SELECT model, country, {seq}, {old}, {new}, '{kind}', {verdict}, 'ada', 'test' FROM releases WHERE seq = 1"""


def releases(zoo):
    return zoo.sql("SELECT seq, from_version, to_version FROM releases WHERE country = 'GB' ORDER BY seq")


@pytest.fixture
def started(zoo):
    """A zoo whose British cell has a champion, and rows for the next one."""
    zoo.see("Britain", range(0, 60))
    zoo.ingest()
    zoo.retrain()
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    return zoo


@pytest.mark.parametrize("change", ["UPDATE releases SET reason = ''", "DELETE FROM releases", "TRUNCATE releases CASCADE"])
def test_history_cannot_be_rewritten(started, change):
    with pytest.raises(psycopg2.errors.RestrictViolation):
        started.sql(change)


def test_the_first_release_cannot_be_undone(started):
    for new in ("NULL", "from_version"):
        with pytest.raises(psycopg2.IntegrityError):
            started.sql(INSERT.format(seq=2, old="to_version", new=new, kind="undo", verdict="NULL"))


def test_a_release_must_follow_the_one_before(started):
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        started.sql(INSERT.format(seq=3, old="to_version", new="to_version", kind="rollback", verdict="NULL"))


def test_only_a_promotion_against_the_release_before_backs_a_publication(started):
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        started.sql(INSERT.format(seq=2, old="to_version", new="to_version", kind="publish", verdict="verdict"))


def test_a_version_without_artifact_cannot_be_released(started):
    started.edit(gate=replace(started.catalog.fleets["zoo"].models["weight"].gate, floor=0.0001))
    started.retrain()
    statement = """INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason)
        SELECT v.model, v.country, 2, r.to_version, v.id, 'rollback', 'ada', 'test'
        FROM releases AS r JOIN versions AS v ON v.artifact_key IS NULL"""
    with pytest.raises(psycopg2.errors.RestrictViolation, match="no artifact"):
        started.sql(statement)


def test_a_missing_artifact_stops_the_cell_and_is_no_first_run(started):
    key = started.sql("SELECT artifact_key FROM versions WHERE artifact_key IS NOT NULL")[0].artifact_key
    (started.resources.store.root / key).unlink()
    run_id = started.plan()
    started.train(run_id)
    outcome = started.outcomes(run_id)["weight/GB"]
    assert (outcome.state, len(releases(started))) == ("failed", 1)
    assert "is not in the store" in outcome.reason


def test_an_unreadable_registry_is_no_first_run(started):
    run_id = started.plan()
    away = replace(started.resources, database="postgresql://nobody@/nowhere?host=/nowhere")
    with pytest.raises(RegistryError, match="perennial_db"):
        train(away, started.catalog, run_id)
    assert len(releases(started)) == 1


def test_a_crash_before_the_row_leaves_an_orphan_and_no_release(started, monkeypatch):
    run_id = started.plan()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cell_step, "publish", interrupt)
        started.train(run_id)
    assert len(releases(started)) == 1
    started.train(run_id)
    assert started.outcomes(run_id)["weight/GB"].state == "published"


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_artifact_that_is_altered_before_it_is_read_back_is_not_published(started, monkeypatch):
    store, put = started.resources.store, started.resources.store.put
    monkeypatch.setattr(store, "put", lambda key, data: put(key, data[:-1] + b"!" if key.endswith(".skops") else data))
    run_id = started.plan()
    started.train(run_id)
    assert "is not what its manifest says" in started.outcomes(run_id)["weight/GB"].reason
    assert len(releases(started)) == 1


def test_an_artifact_that_predicts_otherwise_is_not_published(started, monkeypatch):
    made = publishing.store_artifact
    monkeypatch.setattr(publishing, "store_artifact", lambda r, m, c, challenger: made(r, m, c, swap(challenger)))
    run_id = started.plan()
    started.train(run_id)
    assert "does not predict" in started.outcomes(run_id)["weight/GB"].reason


def swap(challenger):
    return replace(challenger, judged=challenger.served, served=challenger.judged)


def test_a_reader_that_dies_is_an_error_and_the_next_one_serves(started):
    with Verifier(started.resources) as verifier:
        os.kill(verifier.process.pid, signal.SIGKILL)
        manifest = cell_step.ManifestRef(cell=GB, version="x", key="none", sha256="x")
        with pytest.raises(ArtifactError, match="broke its reader"):
            verifier.verify(manifest, (), "rmse", None, {})
        with pytest.raises(ArtifactError, match="is not in the store"):
            verifier.verify(manifest, (), "rmse", None, {})


def test_of_two_racing_publishers_one_wins(started):
    verdict = started.sql("SELECT id, challenger FROM verdicts")[0]
    started.retrain(dry_run=True, force=True)
    (new,) = started.sql("""INSERT INTO verdicts (challenger, model, country, against_seq, window_start, window_end, as_of,
        rows, clusters, decision, gates, reason) SELECT challenger, model, country, 1, window_start, window_end, as_of, rows,
        clusters, decision, gates, reason FROM verdicts RETURNING id""")
    barrier, results = threading.Barrier(2), []

    def race():
        database = connect(started.resources.database)
        barrier.wait()
        try:
            facts = {"against_seq": 1, "champion": verdict.challenger, "challenger": verdict.challenger}
            results.append(registry.publish(database, GB, **facts, verdict=new.id, reason="", run_id="race"))
        except StaleVerdict:
            results.append("stale")
        database.close()

    threads = [threading.Thread(target=race) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(map(str, results)) == ["2", "stale"]


def test_a_stale_verdict_is_refused_and_the_cell_is_judged_again(started, monkeypatch):
    publish, calls = cell_step.publish, []

    def overtaken(database, cell, **facts):
        calls.append(facts["against_seq"])
        if len(calls) == 1:
            publish(database, cell, **facts)
        return publish(database, cell, **facts)

    monkeypatch.setattr(cell_step, "publish", overtaken)
    outcome = started.retrain()["weight/GB"]
    assert calls[0] == 1
    assert len(releases(started)) == len(set(calls)) + 1
    assert outcome.state != "failed"


def test_a_hold_keeps_a_promoted_challenger_from_being_published(started):
    database = connect(started.resources.database)
    facts = {"version": None, "kind": "hold", "person": "ada", "reason": "stocktaking", "until": None}
    run(database, "hold", model="weight", country="GB", **facts)
    outcome = started.retrain()["weight/GB"]
    assert (outcome.state, len(releases(started))) == ("blocked", 1)
    assert "hold by ada: stocktaking" in outcome.reason
    started.sql("UPDATE blockers SET lifted_by = 'ada', lifted_at = now()")
    assert started.retrain(force=True)["weight/GB"].state == "published"
    database.close()
