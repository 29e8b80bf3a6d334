"""Rule 3: a move is conditional on the release it was judged against, in the database."""

import threading
from dataclasses import replace

import pytest
from psycopg2 import errors
from toolbox import GB, cycle, releases

from perennial.errors import Blocked, RegistryError, StaleVerdict
from perennial.shell.database import connect
from perennial.shell.registry import publish
from perennial.steps import cell as cell_step
from perennial.steps import train as train_step
from perennial.steps.cell import Timings

VERDICT = """
INSERT INTO verdicts (challenger, model, country, against_seq, window_start, window_end, as_of, rows, clusters, decision, gates,
                      reason)
SELECT challenger, model, country, %s, window_start, window_end, as_of, rows, clusters, %s, gates, reason FROM verdicts LIMIT 1
RETURNING id
"""
HOLD = "INSERT INTO blockers (model, country, kind, person, reason) VALUES ('weight', 'GB', 'hold', 'ann', 'audit')"


def planned(zoo, run_id):
    """A run in which weight/GB is still to be decided."""
    zoo.sql("INSERT INTO runs (id, fleet, requested, as_of) VALUES (%s, 'zoo', '{}', '{}') ON CONFLICT DO NOTHING", run_id)
    outcome = "INSERT INTO outcomes (run_id, model, country, source, cost) VALUES (%s, 'weight', 'GB', '', 1)"
    zoo.sql(f"{outcome} ON CONFLICT DO NOTHING", run_id)
    return run_id


def move(zoo, verdict, *, against_seq=1, champion=None):
    """Publish the first champion once more, backed by a verdict."""
    database, first = connect(zoo.resources.database), releases(zoo)[0].to_version
    try:
        return publish(
            database, GB, against_seq=against_seq, champion=champion or first, challenger=first, verdict=verdict,
            reason="test", run_id=planned(zoo, "test"),
        )  # fmt: skip
    finally:
        database.close()


def verdict_against(zoo, seq, decision="promote"):
    return zoo.sql(VERDICT, seq, decision)[0].id


def overtake(zoo, monkeypatch):
    """Between a verdict and its release, another run judges and publishes the same cell; there is one attempt only."""
    zoo.edit(attempts=1)
    jobs, train_cell, publish_release = [], train_step.train_cell, cell_step.publish

    def late(*given, **values):
        monkeypatch.setattr(cell_step, "publish", publish_release)
        train_cell(replace(jobs[0], run_id=planned(zoo, "other"), force=True, model=replace(jobs[0].model, seed=1)), Timings())
        return publish_release(*given, **values)

    monkeypatch.setattr(train_step, "train_cell", lambda job, timings: (jobs.append(job), train_cell(job, timings))[1])
    monkeypatch.setattr(cell_step, "publish", late)


def test_of_two_racing_publishers_one_moves_the_champion(zoo):
    cycle(zoo)
    verdict, start, results = verdict_against(zoo, 1), threading.Barrier(2), []

    def publisher():
        start.wait(10)
        try:
            results.append(move(zoo, verdict))
        except StaleVerdict:
            results.append("stale")

    race = [threading.Thread(target=publisher) for _ in range(2)]
    for thread in race:
        thread.start()
    for thread in race:
        thread.join()
    assert sorted(results, key=str) == [2, "stale"]
    assert [row.seq for row in releases(zoo)] == [1, 2]


def test_a_move_waits_for_an_uncommitted_one_and_is_stale_after_it(zoo):
    cycle(zoo)
    verdict, first = verdict_against(zoo, 1), connect(zoo.resources.database)
    first.autocommit = False
    first.cursor().execute(
        "INSERT INTO releases (model, country, seq, from_version, to_version, kind, verdict, reason) "
        "SELECT model, country, 2, to_version, to_version, 'publish', %s, 'first' FROM releases", (verdict,)
    )  # fmt: skip
    timer = threading.Timer(0.3, first.commit)
    timer.start()
    with pytest.raises(StaleVerdict):
        move(zoo, verdict)
    first.close()


def test_a_stale_verdict_is_judged_again_against_the_newer_champion(zoo, monkeypatch):
    cycle(zoo)
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    overtake(zoo, monkeypatch)
    outcome = zoo.retrain(force=True)["weight/GB"]
    assert (outcome.state, outcome.against_seq, outcome.release_seq) == ("published", 2, 3)
    assert [row.run_id for row in releases(zoo)] == ["zoo/run-1", "other", "zoo/run-2"]


def test_a_first_model_that_was_overtaken_is_judged_against_the_winner(zoo, monkeypatch):
    zoo.see("Britain", range(60))
    zoo.ingest()
    overtake(zoo, monkeypatch)
    outcome = zoo.retrain(force=True)["weight/GB"]
    assert (outcome.state, outcome.against_seq, outcome.release_seq) == ("published", 1, 2)


def test_an_overtaken_cell_that_is_due_no_more_is_left_alone(zoo, monkeypatch):
    zoo.see("Britain", range(60))
    zoo.ingest()
    overtake(zoo, monkeypatch)
    assert zoo.retrain()["weight/GB"].reason.startswith("Not due")
    assert [row.run_id for row in releases(zoo)] == ["other"]


def test_a_release_must_come_from_the_champion_before_it(zoo):
    cycle(zoo)
    cycle(zoo, range(60, 90))
    first, second = releases(zoo)
    with pytest.raises(RegistryError, match="refused by the database"):
        move(zoo, verdict_against(zoo, 2), against_seq=2, champion=first.to_version)
    assert releases(zoo) == [first, second]


@pytest.mark.parametrize("against_seq", [0, 3])
def test_a_verdict_backs_only_the_move_it_was_judged_for(zoo, against_seq):
    cycle(zoo)
    with pytest.raises(RegistryError, match="refused by the database"):
        move(zoo, verdict_against(zoo, against_seq) if against_seq else first_verdict(zoo))
    assert len(releases(zoo)) == 1


def first_verdict(zoo):
    return zoo.sql("SELECT id FROM verdicts")[0].id


@pytest.mark.parametrize("decision", ["keep", "inconclusive"])
def test_a_verdict_that_does_not_promote_backs_no_release(zoo, decision):
    cycle(zoo)
    with pytest.raises(RegistryError, match="refused by the database"):
        move(zoo, verdict_against(zoo, 1, decision))
    assert len(releases(zoo)) == 1


def test_a_publication_without_a_verdict_is_refused(zoo):
    cycle(zoo)
    with pytest.raises(RegistryError, match="refused by the database"):
        move(zoo, None)


def test_verdicts_are_final(zoo):
    cycle(zoo)
    with pytest.raises(errors.RestrictViolation):
        zoo.sql("UPDATE verdicts SET decision = 'keep'")
    with pytest.raises(errors.RestrictViolation):
        zoo.sql("DELETE FROM verdicts")


def test_a_held_cell_is_judged_and_not_published(zoo):
    zoo.sql(HOLD)
    outcome = cycle(zoo)
    assert (outcome.state, outcome.decision, releases(zoo)) == ("blocked", "promote", [])
    assert outcome.reason == "Promoted, not published. hold by ann: audit"


def test_the_database_itself_refuses_to_move_a_held_cell(zoo):
    cycle(zoo)
    zoo.sql(HOLD)
    with pytest.raises(Blocked):
        move(zoo, verdict_against(zoo, 1))


def test_a_hold_put_while_the_cell_is_trained_is_named(zoo, monkeypatch):
    original = cell_step.commit_artifact
    monkeypatch.setattr(cell_step, "commit_artifact", lambda *given: (zoo.sql(HOLD), original(*given))[1])
    outcome = cycle(zoo)
    assert (outcome.state, outcome.reason) == ("blocked", "Promoted, not published. hold by ann: audit")


def test_a_lifted_hold_lets_the_same_challenger_through(zoo):
    zoo.sql(HOLD)
    held = cycle(zoo)
    zoo.sql("UPDATE blockers SET lifted_by = 'ann', lifted_at = now()")
    outcome = zoo.retrain(force=True)["weight/GB"]
    assert (outcome.state, outcome.version, outcome.release_seq) == ("published", held.version, 1)


def test_a_hold_that_has_run_out_blocks_nothing(zoo):
    zoo.sql(HOLD)
    zoo.sql("UPDATE blockers SET until = now()")
    assert cycle(zoo).state == "published"
