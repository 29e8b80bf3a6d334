"""Rule 10: every planned cell of a run ends in exactly one outcome, and sick cells leave healthy ones alone."""

import os
import re
import signal
import time
from dataclasses import replace

import pytest
from psycopg2 import errors
from toolbox import GB, add_model, attempt, cycle, held_lock, releases, states, workers
from toy_models.zoo import _failing, _killing, _sleeping, _talking

from perennial.catalog import RefusedSpec
from perennial.cell import Cell
from perennial.errors import FleetFailed, RegistryError, SpecError
from perennial.shell import store as stores
from perennial.spec import Seconds
from perennial.steps import cell as cell_step
from perennial.steps import train as train_step
from perennial.steps import verifier, waiting
from perennial.steps.report import report


def attempts(zoo, **wanted):
    rows = zoo.sql("SELECT model || '/' || country AS cell, count(*) AS number FROM attempts GROUP BY 1")
    return {row.cell: row.number for row in rows}


def test_every_planned_cell_has_one_outcome(fed):
    run_id = fed.plan()
    fed.train(run_id)
    assert states(fed, run_id) == dict.fromkeys(("weight/DE", "weight/FR", "weight/GB"), "published")
    assert len(fed.sql("SELECT 1 FROM outcomes")) == 3


def test_a_second_outcome_for_a_cell_is_refused(fed):
    fed.plan()
    with pytest.raises(errors.UniqueViolation):
        fed.sql("INSERT INTO outcomes (run_id, model, country, source, cost) VALUES ('zoo/run-1', 'weight', 'GB', 's', 1)")


@pytest.mark.parametrize("change", ["UPDATE outcomes SET state = 'failed', release_seq = NULL", "DELETE FROM outcomes"])
def test_an_outcome_is_final(fed, change):
    fed.retrain()
    with pytest.raises(errors.RestrictViolation):
        fed.sql(change)


def test_an_outcome_cannot_claim_a_release_that_is_none(fed):
    fed.plan()
    with pytest.raises(errors.ForeignKeyViolation):
        fed.sql("UPDATE outcomes SET state = 'published', release_seq = 1, decided_at = now()")
    with pytest.raises(errors.CheckViolation):
        fed.sql("UPDATE outcomes SET state = 'published', decided_at = now()")


def test_a_cell_that_no_worker_ended_is_failed_by_the_report(fed):
    run_id = fed.plan()
    with pytest.raises(FleetFailed, match=r"3 of 3 cells.*\n.*weight/GB: No worker brought it to an end"):
        report(fed.resources, fed.catalog, run_id)
    assert set(states(fed, run_id).values()) == {"failed"}


def test_a_refused_spec_fails_with_its_message_beside_healthy_ones(fed):
    add_model(fed, "height", countries=("GB", "ES"), metric="grade")
    specs = fed.catalog.fleets["zoo"]
    model = specs.models.pop("height")
    specs.refused["height"] = RefusedSpec(name="height", countries=("GB",), faults=tuple(model.faults()))
    run_id = fed.plan()
    fed.train(run_id)
    assert states(fed, run_id)["weight/GB"] == "published"
    assert fed.outcomes(run_id)["height/GB"].reason == f"SpecError: {SpecError(model.faults())}"
    assert "unknown metric 'grade'" in fed.outcomes(run_id)["height/GB"].reason


def test_a_cell_that_raises_is_tried_as_often_as_its_spec_says(fed):
    add_model(fed, "height", estimator=_failing.estimator, attempts=3, countries=("GB",))
    run_id = fed.plan()
    fed.train(run_id)
    reason = fed.outcomes(run_id)["height/GB"].reason
    assert re.fullmatch(r"ValueError: this recipe is broken in Failing.fit, specs/toy_models/zoo/_sick.py:\d+", reason)
    assert attempts(fed) == {"height/GB": 3, "weight/DE": 1, "weight/FR": 1, "weight/GB": 1}
    assert list(states(fed, run_id).values()).count("published") == 3


@pytest.mark.parametrize("text", ["a\x00b", "a\udc80b", "ab" * 10_000_000], ids=["NUL", "half a character", "20 MB"])
def test_what_an_error_says_is_stored_whatever_it_is(fed, monkeypatch, text):
    monkeypatch.setattr(_talking.Talking, "TEXT", text)
    fed.edit(estimator=_talking.estimator, attempts=1)
    run_id = fed.plan(countries=("GB",))
    assert fed.train(run_id) == {"failed": 1}
    outcome, (tried,) = fed.outcomes(run_id)["weight/GB"], fed.sql("SELECT * FROM attempts")
    assert outcome.reason.startswith("ValueError: a")
    assert " in Talking.fit, specs/toy_models/zoo/_sick.py:" in outcome.reason
    assert max(len(outcome.reason), len(tried.error) // 5) < 5_000
    assert tried.error.startswith("Traceback")
    assert tried.finished_at is not None


def test_a_refusal_is_not_tried_again(fed):
    fed.edit(features=lambda examples: examples[["target"]], attempts=3, countries=("GB",))
    run_id = fed.plan(models=("weight",), countries=("GB",))
    fed.train(run_id)
    assert states(fed, run_id) == {"weight/GB": "failed"}
    assert attempts(fed) == {"weight/GB": 1}


def test_a_cell_beyond_its_time_limit_fails_alone(fed):
    add_model(fed, "height", estimator=_sleeping.estimator, time_limit=Seconds(1), attempts=1, countries=("GB",))
    run_id = fed.plan()
    fed.train(run_id)
    reason = fed.outcomes(run_id)["height/GB"].reason
    assert reason.startswith(
        "CellTimeout: height/GB met its time limit of 0:00:01 in Sleeping.fit, specs/toy_models/zoo/_sick.py:"
    )
    assert states(fed, run_id)["weight/GB"] == "published"


def test_a_cell_whose_time_ends_in_the_verifier_leaves_no_answer_for_the_next_cell(fed, monkeypatch):
    answer = verifier._answer
    slow = lambda resources, task: (time.sleep(1.5 * (task.manifest.cell.country == "DE")), answer(resources, task))[1]  # noqa: E731
    monkeypatch.setattr(verifier, "_answer", slow)
    fed.edit(time_limit=Seconds(1.2), attempts=1)
    run_id = fed.plan()
    fed.train(run_id)
    assert states(fed, run_id) == {"weight/DE": "failed", "weight/FR": "published", "weight/GB": "published"}


def test_a_cell_whose_process_died_twice_is_failed_and_the_rest_goes_on(fed):
    run_id = fed.plan()
    attempt(fed, run_id, 1)
    attempt(fed, run_id, 2)
    fed.train(run_id)
    assert fed.outcomes(run_id)["weight/GB"].reason.startswith("Killed the worker 2 times, last elsewhere:1")
    assert states(fed, run_id) == {"weight/DE": "published", "weight/FR": "published", "weight/GB": "failed"}


def test_a_cell_whose_process_died_once_is_tried_again(fed):
    run_id = fed.plan()
    attempt(fed, run_id, 1)
    fed.train(run_id)
    assert set(states(fed, run_id).values()) == {"published"}


def test_a_cell_that_kills_its_workers_is_failed_by_the_third(fed):
    add_model(fed, "height", estimator=_killing.estimator, countries=("GB",))
    run_id = fed.plan()
    assert workers(fed, run_id) + workers(fed, run_id) == [-signal.SIGKILL, -signal.SIGKILL]
    assert states(fed, run_id)["height/GB"] == "pending"
    fed.train(run_id)
    assert fed.outcomes(run_id)["height/GB"].reason.startswith("Killed the worker 2 times")
    assert list(states(fed, run_id).values()).count("published") == 3


def test_parallel_workers_share_the_queue_without_doubling(fed):
    for name in ("height", "speed"):
        add_model(fed, name)
    run_id = fed.plan()
    assert workers(fed, run_id, 2) == [0, 0]
    assert set(states(fed, run_id).values()) == {"published"}
    assert (set(attempts(fed).values()), len(fed.sql("SELECT 1 FROM releases"))) == ({1}, 9)


def test_a_cell_that_was_ended_before_it_was_locked_is_not_trained_again(fed, monkeypatch):
    run_id, ask = fed.plan(force=True), train_step.fetch_one

    def late(database, query, **values):
        found = ask(database, query, **values)
        if query == "lock_next":
            monkeypatch.setattr(train_step, "fetch_one", ask)
            end = "UPDATE outcomes SET state = 'skipped', decided_at = now() WHERE (model, country) = (%s, %s)"
            fed.sql(end, found.model, found.country)
        return found

    monkeypatch.setattr(train_step, "fetch_one", late)
    assert fed.train(run_id) == {"published": 2}
    assert sorted(states(fed, run_id).values()) == ["published", "published", "skipped"]
    assert (set(attempts(fed).values()), len(attempts(fed))) == ({1}, 2)


def test_a_tried_cell_that_another_worker_ended_meanwhile_is_not_tried_again(fed, monkeypatch):
    run_id, ask = fed.plan(force=True), train_step.fetch_one
    for country in ("DE", "FR", "GB"):
        attempt(fed, run_id, 1, Cell("weight", country))

    def late(database, query, **values):
        if query == "lock_cell":
            monkeypatch.setattr(train_step, "fetch_one", ask)
            assert workers(fed, run_id) == [0]
        return ask(database, query, **values)

    monkeypatch.setattr(train_step, "fetch_one", late)
    assert fed.train(run_id) == {}
    assert (set(attempts(fed).values()), len(attempts(fed))) == ({2}, 3)


def test_cells_of_countries_with_fresh_rows_come_before_those_that_are_only_looked_at(fed):
    fed.retrain()
    fed.see("France", range(60, 61))
    fed.ingest()
    run_id = fed.plan(force=True)
    fed.sql("UPDATE outcomes SET cost = CASE country WHEN 'FR' THEN 1 ELSE 100 END WHERE run_id = %s", run_id)
    fed.train(run_id)
    order = [row.country for row in fed.sql("SELECT country FROM attempts WHERE run_id = %s ORDER BY started_at", run_id)]
    assert len(set(order)) > 1
    assert order == sorted(order, key=lambda country: country != "FR")


def test_cells_of_the_last_ones_country_come_first_then_the_costliest(fed):
    add_model(fed, "height")
    run_id = fed.plan()
    for cost, cell in enumerate((("weight", "FR"), ("weight", "DE"), ("height", "FR"), ("weight", "GB"))):
        fed.sql("UPDATE outcomes SET cost = %s WHERE (model, country) = (%s, %s)", 100 + cost, *cell)
    fed.train(run_id)
    trained = [tuple(row) for row in fed.sql("SELECT model, country FROM attempts ORDER BY started_at")]
    weight, height = ([(model, country) for country in ("GB", "FR", "DE")] for model in ("weight", "height"))
    assert trained == [weight[0], height[0], height[1], weight[1], weight[2], height[2]]


def test_more_cells_in_other_hands_than_a_worker_looks_at_hide_no_free_one(fed):
    for name in ("height", "speed", "age", "sight"):
        add_model(fed, name)
    run_id = fed.plan()
    fed.sql("UPDATE outcomes SET cost = 100 WHERE (model, country) <> ('weight', 'GB')")
    held = [held_lock(fed, Cell(row.model, row.country)) for row in fed.sql("SELECT * FROM outcomes WHERE cost = 100")]
    worker = workers_in_background(fed, run_id)
    deadline = time.monotonic() + 20
    while states(fed, run_id)["weight/GB"] == "pending" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(states(fed, run_id).values()).count("published") == 1
    for session in held:
        session.close()
    worker.join(30)
    assert set(states(fed, run_id).values()) == {"published"}


def test_a_worker_waits_for_a_cell_that_another_worker_of_its_run_holds(fed):
    run_id = fed.plan(countries=("GB",))
    session = held_lock(fed)
    worker = workers_in_background(fed, run_id)
    time.sleep(1)
    assert (worker.is_alive(), attempts(fed)) == (True, {})
    session.close()
    worker.join(30)
    assert states(fed, run_id) == {"weight/GB": "published"}


def test_a_lock_that_nobody_trains_under_is_named_and_given_up(fed, monkeypatch, caplog):
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 2)
    run_id = fed.plan()
    session = held_lock(fed)
    with session.cursor() as cursor:
        cursor.execute("SET application_name = 'psql'")
    assert fed.train(run_id) == {"published": 2}
    outcome = fed.outcomes(run_id)["weight/GB"]
    who = f"process {session.get_backend_pid()}, user postgres, application psql, from the server"
    assert outcome.state == "failed"
    assert f"is held by a session of the database that trains nothing: {who}" in outcome.reason
    assert "itself, connected since 20" in outcome.reason
    said = [record.getMessage() for record in caplog.records if record.name == waiting.__name__]
    assert 2 <= len(said) <= 4
    assert all(who in each for each in said)
    session.close()
    assert fed.retrain(force=True)["weight/GB"].state == "published"


def test_who_trains_is_waited_for_however_long_it_takes(fed, monkeypatch):
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 1)
    run_id = fed.plan(countries=("GB",))
    attempt(fed, run_id, 1)
    session = held_lock(fed)
    worker = workers_in_background(fed, run_id)
    time.sleep(3)
    assert (worker.is_alive(), states(fed, run_id)) == (True, {"weight/GB": "pending"})
    fed.sql("UPDATE attempts SET started_at = started_at - interval '30 days'")
    worker.join(30)
    assert states(fed, run_id) == {"weight/GB": "failed"}
    session.close()


def workers_in_background(zoo, run_id):
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=zoo.train, args=(run_id,))
    process.start()
    return process


def test_a_cell_that_another_run_is_training_is_left_to_it(fed):
    other, run_id = fed.plan(), fed.plan()
    attempt(fed, other, 1)
    session = held_lock(fed)
    fed.train(run_id)
    session.close()
    assert fed.outcomes(run_id)["weight/GB"].reason == f"Run {other} is training it."
    assert states(fed, run_id) == {"weight/DE": "published", "weight/FR": "published", "weight/GB": "skipped"}


def test_a_dead_attempt_of_another_run_does_not_hide_who_trains_the_cell(fed):
    dead, run_id = fed.plan(countries=("GB",)), fed.plan(countries=("GB",))
    attempt(fed, dead, 1)
    attempt(fed, run_id, 1)
    session = held_lock(fed)
    worker = workers_in_background(fed, run_id)
    time.sleep(1)
    session.close()
    worker.join(30)
    assert states(fed, run_id) == {"weight/GB": "published"}


def test_a_dry_run_judges_and_publishes_nothing(zoo):
    outcome = cycle(zoo, dry_run=True)
    assert (outcome.state, outcome.reason.startswith("Dry run: promote. First model")) == ("skipped", True)
    assert (releases(zoo), zoo.sql("SELECT 1 FROM versions"), zoo.resources.store.keys("artifacts/")) == ([], [], [])


def test_a_store_that_fails_after_the_release_does_not_hide_it(zoo, monkeypatch):
    release_and_lose_the_pointer(zoo, monkeypatch, times=1)
    outcome = cycle(zoo, force=True)
    assert (outcome.state, outcome.release_seq, len(releases(zoo))) == ("published", 1, 1)


def test_a_worker_killed_between_release_and_outcome_publishes_once(fed, monkeypatch):
    run_id = fed.plan(countries=("GB",), force=True)
    with monkeypatch.context() as killed:
        killed.setattr(cell_step, "write_pointer", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
        assert workers(fed, run_id) == [-signal.SIGKILL]
    fed.train(run_id)
    assert (states(fed, run_id), len(releases(fed, GB))) == ({"weight/GB": "published"}, 1)


def release_and_lose_the_pointer(zoo, monkeypatch, times):
    """The store fails as often, each time after the release and before its pointer."""
    pointer, failures = cell_step.write_pointer, iter([stores.StoreError("the disk is full")] * times)

    def write(*given):
        for failure in failures:
            raise failure
        pointer(*given)

    monkeypatch.setattr(cell_step, "write_pointer", write)


def test_a_released_cell_is_not_failed_when_its_attempts_are_used_up(fed, monkeypatch):
    fed.edit(attempts=1)
    release_and_lose_the_pointer(fed, monkeypatch, times=3)
    run_id = fed.plan()
    fed.train(run_id)
    assert set(states(fed, run_id).values()) == {"published"}
    assert attempts(fed) == {"weight/DE": 1, "weight/FR": 1, "weight/GB": 1}


def test_a_released_cell_is_not_failed_when_it_killed_its_workers(fed, monkeypatch):
    run_id = fed.plan(countries=("GB",))
    attempt(fed, run_id, 1)
    with monkeypatch.context() as killed:
        killed.setattr(cell_step, "write_pointer", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
        assert workers(fed, run_id) == [-signal.SIGKILL]
    fed.train(run_id)
    assert (states(fed, run_id), len(releases(fed, GB))) == ({"weight/GB": "published"}, 1)


def test_a_released_cell_is_not_failed_by_the_report(fed, monkeypatch):
    run_id = fed.plan(countries=("GB",))
    monkeypatch.setattr(cell_step, "write_pointer", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
    assert workers(fed, run_id) == [-signal.SIGKILL]
    assert report(fed.resources, fed.catalog, run_id) == {"published": 1}


def test_a_training_that_outlives_the_report_cannot_release(fed, monkeypatch):
    run_id, commit = fed.plan(countries=("GB",)), cell_step.commit_artifact

    def slow(*given):
        with pytest.raises(FleetFailed):
            report(fed.resources, fed.catalog, run_id)
        return commit(*given)

    monkeypatch.setattr(cell_step, "commit_artifact", slow)
    assert fed.train(run_id) == {}
    assert "weight/GB is not, or no longer, to be decided in run" in fed.sql("SELECT error FROM attempts")[0].error
    assert (states(fed, run_id), releases(fed)) == ({"weight/GB": "failed"}, [])


def test_a_statement_that_the_registry_refuses_is_its_cells_error_alone(fed, monkeypatch):
    move = cell_step.publish

    def publish(database, cell, *, verdict, **given):
        return move(database, cell, verdict=-1 if cell.country == "DE" else verdict, **given)

    monkeypatch.setattr(cell_step, "publish", publish)
    run_id = fed.plan()
    assert fed.train(run_id) == {"failed": 1, "published": 2}
    assert "The release of weight/DE was refused by the database" in fed.outcomes(run_id)["weight/DE"].reason
    assert attempts(fed) == {"weight/DE": 2, "weight/FR": 1, "weight/GB": 1}


def test_a_query_that_does_not_fit_the_registry_is_its_cells_error_alone(fed, monkeypatch):
    record = cell_step.run

    def write(database, query, **values):
        if query == "add_snapshot" and values["country"] == "DE":
            values["country"] = object()
        return record(database, query, **values)

    monkeypatch.setattr(cell_step, "run", write)
    run_id = fed.plan()
    assert fed.train(run_id) == {"failed": 1, "published": 2}
    assert "can't adapt type" in fed.outcomes(run_id)["weight/DE"].reason


def test_the_database_refuses_an_outcome_that_denies_a_release(fed):
    run_id = fed.plan(countries=("GB",))
    fed.sql("SET session_replication_role = replica; "
            "INSERT INTO releases (model, country, seq, to_version, kind, verdict, reason, run_id) "
            "VALUES ('weight', 'GB', 1, 'v', 'publish', 1, '', %s)", run_id)  # fmt: skip
    with pytest.raises(errors.RestrictViolation, match="has released weight/GB: that is its outcome"):
        fed.sql("UPDATE outcomes SET state = 'failed', decided_at = now()")


def test_a_lost_registry_is_not_a_cell_that_failed(fed):
    run_id = fed.plan()
    healthy, fed.resources = fed.resources, replace(fed.resources, database="host=/nowhere")
    with pytest.raises(RegistryError, match="cannot be reached"):
        fed.train(run_id)
    fed.resources = healthy
    assert set(states(fed, run_id).values()) == {"pending"}


def test_fewer_failures_than_the_fleet_allows_do_not_fail_the_run(fed):
    add_model(fed, "height", estimator=_failing.estimator, attempts=1, countries=("GB",))
    specs = fed.catalog.fleets["zoo"]
    fed.catalog.fleets["zoo"] = replace(specs, fleet=replace(specs.fleet, failure_limit=0.25))
    run_id = fed.plan()
    fed.train(run_id)
    assert report(fed.resources, fed.catalog, run_id) == {"published": 3, "failed": 1}
