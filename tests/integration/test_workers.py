"""Workers: a cell that ends its process ends no worker, and no training outlives its session or its worker."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

import psutil
import pytest
from botocore.config import Config
from outages import relayed
from toolbox import add_model, attempt, releases, states
from toy_models.zoo import _failing, _killing, _waiting

from perennial.errors import PerennialError, Refused, RegistryError, RegistryLost
from perennial.shell.database import connect, fetch
from perennial.shell.lifeline import LOST, lifeline
from perennial.shell.store import open_store
from perennial.steps import worker
from perennial.steps.audit import audit
from perennial.steps.train import Stopped, worker_name
from perennial.steps.worker import work

IMPATIENT = Config(retries={"max_attempts": 0}, connect_timeout=1)


@pytest.fixture
def fed(fed, tmp_path, monkeypatch):
    """Fed, with a folder by which trainings are held and tell of themselves."""
    monkeypatch.setenv("PERENNIAL_TEST_FOLDER", str(tmp_path))
    return fed


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)


def test_cells_that_kill_their_processes_are_failed_by_one_worker_and_the_rest_goes_on(fed):
    add_model(fed, "height", estimator=_killing.estimator)
    run_id = fed.plan()
    work(fed.resources, fed.catalog, run_id)
    assert {cell: state for cell, state in states(fed, run_id).items() if state != "failed"} == dict.fromkeys(
        ("weight/DE", "weight/FR", "weight/GB"), "published"
    )
    reasons = [row.reason for row in fed.outcomes(run_id).values() if row.state == "failed"]
    assert [reason.startswith("Killed the worker 2 times") for reason in reasons] == [True] * 3
    assert audit(fed.resources, fed.catalog) == []


def test_a_worker_returns_what_its_training_came_to(fed):
    add_model(fed, "height", estimator=_failing.estimator, countries=("GB",))
    assert work(fed.resources, fed.catalog, fed.plan()) == {"published": 3, "failed": 1}


def test_a_task_that_is_a_daemon_trains_too(fed):
    run_id = fed.plan()
    context = multiprocessing.get_context("fork")
    task = context.Process(target=work, args=(fed.resources, fed.catalog, run_id), daemon=True)  # as Celery's are
    task.start()
    task.join(60)
    assert task.exitcode == 0
    assert set(states(fed, run_id).values()) == {"published"}


def test_a_training_that_cannot_begin_says_why(fed):
    with pytest.raises(PerennialError, match="Run zoo/no-such-run has no plan"):
        work(fed.resources, fed.catalog, "zoo/no-such-run")


@pytest.mark.parametrize(("error", "raised"), [(Refused, Refused), (ValueError, PerennialError)])
def test_refusals_and_errors_come_through(fed, monkeypatch, error, raised):
    def train(*given):
        raise error("no")

    monkeypatch.setattr(worker, "train", train)
    with pytest.raises(raised, match="no"):
        work(fed.resources, fed.catalog, "zoo/run-1")


def test_a_process_that_dies_outside_of_any_cell_is_not_replaced(fed, monkeypatch):
    monkeypatch.setattr(worker, "train", lambda *given: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RegistryError, match="ended with code -9 outside of any cell"):
        work(fed.resources, fed.catalog, fed.plan())


@pytest.fixture
def at_work(fed):
    """A worker whose one cell waits amidst its fit; the run, the worker's process, and the training's number."""
    fed.edit(estimator=_waiting.estimator, trusted=_waiting.TRUSTED, countries=("GB",))
    _waiting.hold()
    run_id = fed.plan()
    process = multiprocessing.get_context("fork").Process(target=work, args=(fed.resources, fed.catalog, run_id))
    process.start()
    wait_until(_waiting.fits)
    yield run_id, process, _waiting.fits()[0].pid
    _waiting.let_go()
    process.kill()
    process.join()


def test_a_training_that_lost_its_session_ends_and_another_one_goes_on(fed, at_work):
    run_id, process, training = at_work
    fed.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    wait_until(lambda: len(_waiting.fits()) == 2)
    assert not psutil.pid_exists(training)
    _waiting.let_go()
    process.join(30)
    assert (process.exitcode, states(fed, run_id), len(releases(fed))) == (0, {"weight/GB": "published"}, 1)
    assert audit(fed.resources, fed.catalog) == []


def test_outages_of_the_registry_are_no_deaths_and_no_tries_of_their_cell(fed, at_work):
    run_id, process, _ = at_work
    for number in (2, 3, 4):
        fed.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        wait_until(lambda number=number: len(_waiting.fits()) == number)
    _waiting.let_go()
    process.join(30)
    assert (process.exitcode, states(fed, run_id)) == (0, {"weight/GB": "published"})
    counted = fed.sql("SELECT is_acquitted, error, finished_at IS NULL AS is_open FROM attempts ORDER BY attempt")
    assert counted == [(True, "Perennial's database went away.", True)] * 3 + [(False, None, False)]
    assert audit(fed.resources, fed.catalog) == []


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_store_that_is_away_for_a_while_fails_no_cell(zoo, s3, attempts):
    address = urlsplit(s3["endpoint_url"])
    with relayed(address.hostname, address.port) as relay:
        options = {**s3, "endpoint_url": f"http://127.0.0.1:{relay.port}", "config": IMPATIENT}
        zoo.resources = replace(zoo.resources, store=open_store("s3://bucket/away", options))
        for country in ("Britain", "France"):
            zoo.see(country, range(60))
        zoo.ingest()
        zoo.edit(attempts=attempts)

        relay.close()
        threading.Timer(3, relay.open).start()
        run_id = zoo.plan(models=("weight",), countries=("FR", "GB"))
        assert work(zoo.resources, zoo.catalog, run_id) == {"published": 2}
        assert audit(zoo.resources, zoo.catalog) == []

    errors = [row.error for row in zoo.sql("SELECT error FROM attempts WHERE is_acquitted")]
    assert errors
    assert all("the store cannot be reached" in error for error in errors)


def test_a_statement_that_times_out_is_no_lost_registry(fed):
    with closing(connect(fed.resources.database)) as holder, closing(connect(fed.resources.database)) as database:
        holder.autocommit = False
        holder.cursor().execute("LOCK TABLE perennial.outcomes")
        database.cursor().execute("SET lock_timeout = '10ms'")
        with pytest.raises(RegistryError, match="could not carry out a statement: canceling") as refused:
            fetch(database, "outcomes_of", run_id="zoo/1")

    assert not isinstance(refused.value, RegistryLost)


def test_a_worker_waits_for_the_registry_to_come_back(fed, monkeypatch):
    reached, away = worker.connect, iter([RegistryLost("away")] * 2)

    def connect(dsn):
        for error in away:
            raise error
        return reached(dsn)

    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker, "connect", connect)
    monkeypatch.setattr(worker, "train", lost_at_first(fed, worker.train))
    run_id = fed.plan(countries=("GB",))
    assert work(fed.resources, fed.catalog, run_id) == {"published": 1}


def lost_at_first(fed, train):
    """A training that the registry leaves once."""

    def training(resources, catalog, run_id):
        if not fed.sql("SELECT 1 FROM attempts"):
            attempt(fed, run_id, 1, worker=worker_name(os.getpid()))
            raise RegistryLost
        return train(resources, catalog, run_id)

    return training


def test_a_registry_that_stays_away_or_keeps_going_away_ends_the_worker(fed, monkeypatch):
    def train(*given):
        raise RegistryLost

    monkeypatch.setattr(worker, "train", train)
    with pytest.raises(RegistryLost, match="went away 6 times"):
        work(fed.resources, fed.catalog, fed.plan())
    monkeypatch.setattr(worker, "PATIENCE_SECONDS", 0)
    with pytest.raises(RegistryLost, match="cannot be reached"):
        work(replace(fed.resources, database="host=/nowhere"), fed.catalog, "zoo/run-1")


def test_a_cell_whose_training_was_told_to_stop_is_tried_as_often_as_its_spec_says(fed, at_work):
    run_id, process, training = at_work
    os.kill(training, signal.SIGTERM)
    process.join(30)
    _waiting.let_go()
    fed.edit(estimator=_failing.estimator, trusted=(), attempts=2)
    assert work(fed.resources, fed.catalog, run_id) == {"failed": 1}
    errors = [row.error for row in fed.sql("SELECT error FROM attempts ORDER BY attempt")]
    assert [error.splitlines()[-1] for error in errors[1:]] == ["ValueError: this recipe is broken"] * 2


def test_a_killed_worker_takes_its_training_with_it(fed, at_work):
    run_id, process, training = at_work
    process.kill()
    wait_until(lambda: not psutil.pid_exists(training) or psutil.Process(training).status() == psutil.STATUS_ZOMBIE)
    _waiting.let_go()
    work(fed.resources, fed.catalog, run_id)
    assert (states(fed, run_id), len(releases(fed))) == ({"weight/GB": "published"}, 1)


def test_a_killed_training_is_replaced_at_once(fed, at_work):
    run_id, process, training = at_work
    os.kill(training, signal.SIGKILL)
    wait_until(lambda: len(_waiting.fits()) == 2, seconds=5)
    _waiting.let_go()
    process.join(30)
    assert (process.exitcode, states(fed, run_id)) == (0, {"weight/GB": "published"})


def test_a_training_told_to_stop_is_not_replaced_and_its_cell_has_not_killed_it(fed, at_work):
    run_id, process, training = at_work
    os.kill(training, signal.SIGTERM)
    process.join(30)
    assert (process.exitcode, states(fed, run_id)) == (1, {"weight/GB": "pending"})
    assert [row.error for row in fed.sql("SELECT error FROM attempts WHERE finished_at IS NOT NULL")] == [Stopped.__doc__]
    _waiting.let_go()
    assert work(fed.resources, fed.catalog, run_id) == {"published": 1}
    assert audit(fed.resources, fed.catalog) == []


def _under_a_lifeline(pipe, others):
    others.close()
    with lifeline(pipe.fileno(), "gone"):
        pipe.recv()
    time.sleep(1)


@pytest.mark.parametrize(("word", "code"), [(True, 0), (False, LOST)], ids=["left in time", "cut"])
def test_a_lifeline_that_is_cut_ends_the_process(word, code):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_under_a_lifeline, args=(theirs, ours))
    process.start()
    theirs.close()
    if word:
        ours.send("go on")
        time.sleep(0.2)
    ours.close()
    process.join(10)
    assert process.exitcode == code
