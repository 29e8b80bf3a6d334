"""Rules 8 and 10: each planned cell ends in exactly one outcome, and doing anything again is harmless."""

import multiprocessing
import signal

import psycopg2
import pytest
from toy_models.zoo import hangs, kills, raises

from perennial.errors import FleetFailed, NothingToDo, RequestError
from perennial.shell.database import connect, migrate, run
from perennial.spec import Seconds
from perennial.steps.plan import Request, plan
from perennial.steps.report import announce, report


@pytest.fixture
def fed(zoo):
    """A zoo with rows for two countries."""
    for country in ("Britain", "France"):
        zoo.see(country, range(0, 60))
    zoo.ingest()
    return zoo


def in_process(zoo, run_id: str) -> int:
    """One worker in a process of its own; returns its exit code."""
    process = multiprocessing.get_context("fork").Process(target=zoo.train, args=(run_id,))
    process.start()
    process.join(60)
    return process.exitcode


def test_an_outcome_is_final(fed):
    fed.retrain()
    with pytest.raises(psycopg2.errors.RestrictViolation, match="is final"):
        fed.sql("UPDATE outcomes SET reason = ''")


def test_a_cell_that_kills_its_worker_twice_fails_alone(fed):
    fed.edit(estimator=kills.estimator, countries=("GB",))
    run_id = fed.plan(models=("weight",), countries=("GB",))
    assert [in_process(fed, run_id) for _ in range(3)] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    outcome = fed.outcomes(run_id)["weight/GB"]
    assert (outcome.state, outcome.reason[:26]) == ("failed", "Killed the worker 2 times,")


def test_a_killed_workers_cell_is_trained_by_the_next_one(fed):
    healthy = fed.catalog
    run_id = fed.plan()
    fed.edit(estimator=kills.estimator)
    assert in_process(fed, run_id) == -signal.SIGKILL
    fed.catalog = healthy
    fed.train(run_id)
    assert {row.state for row in fed.outcomes(run_id).values()} == {"published"}


def test_a_hanging_cell_meets_its_time_limit(fed):
    fed.edit(estimator=hangs.estimator, time_limit=Seconds(0.5), attempts=1)
    run_id = fed.plan(countries=("GB",))
    fed.train(run_id)
    assert "CellTimeout: weight/GB met its time limit" in fed.outcomes(run_id)["weight/GB"].reason


def test_a_failing_cell_is_tried_as_often_as_its_spec_says(fed):
    fed.edit(estimator=raises.estimator, attempts=3)
    run_id = fed.plan(countries=("GB",))
    fed.train(run_id)
    attempts = fed.sql("SELECT attempt, error FROM attempts ORDER BY attempt")
    assert [row.attempt for row in attempts] == [1, 2, 3]
    assert "ValueError: singular" in attempts[0].error


def test_two_workers_share_the_queue_without_doubling(fed):
    run_id = fed.plan()
    processes = [multiprocessing.get_context("fork").Process(target=fed.train, args=(run_id,)) for _ in range(2)]
    [process.start() for process in processes]
    [process.join(60) for process in processes]
    assert [row.number for row in fed.sql("SELECT count(*) AS number FROM attempts GROUP BY model, country")] == [1, 1]
    assert {row.state for row in fed.outcomes(run_id).values()} == {"published"}


def test_a_cell_that_another_run_trains_is_left_to_it(fed):
    mine, theirs = fed.plan(countries=("GB",)), fed.plan(countries=("GB",))
    other = connect(fed.resources.database)
    run(other, "lock_cell", model="weight", country="GB")
    run(other, "start_attempt", run_id=theirs, model="weight", country="GB", worker="elsewhere")
    fed.train(mine)
    outcome = fed.outcomes(mine)["weight/GB"]
    assert (outcome.state, outcome.reason) == ("skipped", f"Run {theirs} is training it.")
    other.close()


def test_a_cell_no_worker_ended_is_failed_by_the_report(fed):
    run_id = fed.plan()
    with pytest.raises(FleetFailed, match="No worker brought it to an end"):
        report(fed.resources, fed.catalog, run_id)
    assert {row.state for row in fed.outcomes(run_id).values()} == {"failed"}


def test_a_run_without_a_plan_has_failed(fed):
    with pytest.raises(FleetFailed, match="has no plan"):
        report(fed.resources, fed.catalog, "zoo/none")


def test_a_refused_spec_shows_as_failed_cells_and_the_others_run(fed):
    from dataclasses import replace

    from perennial.catalog import RefusedSpec
    from perennial.errors import Fault

    specs = fed.catalog.fleets["zoo"]
    refused = RefusedSpec(name="height", countries=("GB",), faults=(Fault(where="height.py:7", what="wrong", fix="Mend it."),))
    fed.catalog = replace(fed.catalog, fleets={"zoo": replace(specs, refused={"height": refused})})
    run_id = fed.plan()
    fed.train(run_id)
    outcomes = fed.outcomes(run_id)
    assert outcomes["height/GB"].reason == "SpecError: height.py:7: wrong. Mend it."
    assert outcomes["weight/GB"].state == "published"


def test_a_release_whose_outcome_was_lost_is_not_made_twice(fed, monkeypatch):
    from perennial.steps import train as train_step

    run_id = fed.plan(countries=("GB",))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_step, "_end_attempt", interrupt)
        fed.train(run_id)
    fed.train(run_id)
    assert fed.outcomes(run_id)["weight/GB"].release_seq == 1
    assert fed.sql("SELECT count(*) AS number FROM releases")[0].number == 1


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_running_every_step_again_changes_nothing(fed):
    run_id = fed.plan()
    fed.train(run_id)
    before = fed.sql("SELECT * FROM outcomes"), fed.sql("SELECT * FROM releases")
    plan(fed.resources, fed.catalog, "zoo", run_id, Request())
    fed.train(run_id)
    report(fed.resources, fed.catalog, run_id)
    assert (fed.sql("SELECT * FROM outcomes"), fed.sql("SELECT * FROM releases")) == before


def test_forcing_without_new_rows_publishes_nothing_again(fed):
    fed.retrain()
    outcomes = fed.retrain(force=True)
    assert {row.reason for row in outcomes.values()} == {"Nothing has changed: the champion is this very version."}


def test_migrating_again_applies_nothing(fed):
    assert migrate(fed.resources.database) == []


def test_a_dry_run_publishes_and_remembers_nothing(fed):
    outcomes = fed.retrain(dry_run=True)
    assert {row.reason.split(".")[0] for row in outcomes.values()} == {"Dry run: promote"}
    assert fed.sql("SELECT * FROM versions") == []


def test_a_lost_pointer_is_repaired_and_moves_are_announced_once(fed):
    fed.retrain()
    (fed.resources.store.root / "pointers/weight/GB.json").unlink()
    assert announce(fed.resources, fed.catalog, "zoo") == ["weight/FR/1", "weight/GB/1"]
    assert "pointers/weight/GB.json" in fed.resources.store.keys("pointers/")
    with pytest.raises(NothingToDo):
        announce(fed.resources, fed.catalog, "zoo")


@pytest.mark.parametrize(
    "request_", [{"models": ("weigth",)}, {"countries": ("UK",)}, {"models": ("late",), "countries": ("GB",)}]
)
def test_a_request_outside_the_matrix_is_refused_by_name(fed, request_):
    with pytest.raises(RequestError):
        fed.plan(**request_)
