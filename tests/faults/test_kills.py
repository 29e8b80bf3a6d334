"""Parts of the real stack are killed amidst real runs; each run comes to its end, and no rule is broken on the way."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import pytest
from faulty import patient
from killed_world import World, family, is_alive, kill, wait_until
from rich.console import Console
from toy_models.zoo import _waiting

from embedded import replay
from embedded.errors import ChildFailed, EmbeddedError, PostgresFailed
from embedded.examples import SHOP
from worlds import retail

GB = "1"  # how the toys know it
ALL_PUBLISHED = dict.fromkeys(("weight/DE", "weight/FR", "weight/GB"), "published")


@pytest.fixture(autouse=True)
def nothing_is_held(world: World) -> Iterator[None]:
    """Whatever a test has held goes on after it, and no cell was ever fitted by two processes at once."""
    yield
    _waiting.let_go()
    assert _waiting.events("beside") == []


@pytest.fixture
def held(world: World) -> tuple[str, int]:
    """A run whose weight/GB waits amidst its fit; the run, and the process that trains."""
    _waiting.hold(GB)
    fits = len(_waiting.fits())
    run_id = world.retrain(models=["weight"])
    wait_until(lambda: GB in [event.cell for event in _waiting.fits()[fits:]])
    return run_id, world.training(run_id)


def are_gone(pids) -> bool:
    return not any(is_alive(pid) for pid in pids)


def test_a_training_killed_amidst_its_fit(world, held):
    run_id, training = held
    killed = family(training)
    at = kill(training)
    wait_until(lambda: are_gone(killed))
    _waiting.let_go()
    words = {"killed": "training", "moment": "its fit", "goes_on": "by itself"}
    assert world.recover(run_id, at, **words) == ALL_PUBLISHED


def test_a_training_killed_before_what_it_stored_is_on_record(world):
    (patient.folder() / "loading").unlink(missing_ok=True)
    patient.gate().touch()
    run_id = world.retrain(models=["weight"], countries=["GB"])
    verifier = wait_until(patient.loading)
    (version,) = world.ask("SELECT id FROM perennial.versions WHERE model = 'weight' ORDER BY created_at DESC LIMIT 1")[0]
    stored = world.resources.store.keys(f"artifacts/weight/GB/{version}/")
    assert len(stored) == 4  # both fits, the sample, the manifest
    assert world.ask("SELECT artifact_key FROM perennial.versions WHERE id = %s", version) == [(None,)]
    killed = family(world.training(run_id))
    assert verifier in killed
    at = kill(world.training(run_id))
    wait_until(lambda: are_gone(killed))
    patient.gate().unlink()
    words = {"killed": "training", "moment": "its store: bytes put, no row", "goes_on": "by itself"}
    assert world.recover(run_id, at, **words) == {"weight/GB": "published"}


def test_a_training_killed_between_its_artifacts_row_and_the_release(world):
    run_id = at = None
    with world.locked("releases"):
        run_id = world.retrain(models=["weight"], countries=["GB"])
        (session,) = wait_until(lambda: world.waiting("releases"))
        at = kill(world.training(run_id))
        world.end_sessions([session])
    words = {"killed": "training", "moment": "artifact on record, no release", "goes_on": "by itself"}
    assert world.recover(run_id, at, **words) == {"weight/GB": "published"}


def test_a_training_killed_while_its_release_is_made(world):
    with world.locked("releases"):
        run_id = world.retrain(models=["weight"], countries=["GB"])
        wait_until(lambda: world.waiting("releases"))
        at = kill(world.training(run_id))
    words = {"killed": "training", "moment": "release made, no pointer, no outcome", "goes_on": "by itself"}
    assert world.recover(run_id, at, **words) == {"weight/GB": "published"}
    assert len(world.ask("SELECT FROM perennial.attempts WHERE run_id = %s", run_id)) == 1


def test_a_training_killed_between_release_and_outcome(world):
    _waiting.hold(GB)
    run_id = world.retrain(models=["weight"], countries=["GB"])
    wait_until(lambda: world.training(run_id))
    with world.locked("outcomes"):
        _waiting.let_go()
        (session,) = wait_until(lambda: world.waiting("outcomes"))
        (number,) = world.ask("SELECT count(*) FROM perennial.releases WHERE run_id = %s", run_id)[0]
        (worker,) = world.ask("SELECT split_part(worker, ':', 2)::int FROM perennial.attempts WHERE run_id = %s", run_id)[0]
        at = kill(worker)
        world.end_sessions([session])
    assert number == 1
    words = {"killed": "training", "moment": "release and pointer made, no outcome", "goes_on": "by itself"}
    assert world.recover(run_id, at, **words) == {"weight/GB": "published"}


def test_a_task_killed(world, held):
    run_id, training = held
    task = psutil.Process(training).ppid()
    killed = family(task)
    at = kill(task)
    wait_until(lambda: are_gone(killed))
    _waiting.let_go()
    words = {"killed": "task", "moment": "a fit", "goes_on": "by itself"}
    assert world.recover(run_id, at, **words) == ALL_PUBLISHED


def test_a_worker_of_the_executor_killed(world, held):
    run_id, training = held
    worker = psutil.Process(psutil.Process(training).ppid()).ppid()
    killed = family(worker)
    at = kill(worker)
    time.sleep(2)
    _waiting.let_go()
    words = {"killed": "LocalExecutor worker", "moment": "a fit", "goes_on": "by itself"}
    assert world.recover(run_id, at, **words) == ALL_PUBLISHED
    assert are_gone(killed)


def test_a_backend_of_postgres_killed(world, held):
    run_id, _ = held
    (backend,) = world.ask("SELECT pid FROM pg_locks WHERE locktype = 'advisory' LIMIT 1")[0]
    at = kill(backend)
    _waiting.let_go()
    wait_until(lambda: is_broken(world.stack) or world.run_state(run_id) == "success")
    goes_on = "with the next `make run`" if is_broken(world.stack) else "by itself"
    if is_broken(world.stack):  # Airflow's scheduler does not always outlive the server's recovery
        world.start_again()
    words = {"killed": "PostgreSQL backend", "moment": "a fit", "goes_on": goes_on}
    assert world.recover(run_id, at, **words) == ALL_PUBLISHED


def test_cells_that_end_starve_or_block_their_process_fail_alone(world):
    run_id = world.retrain(models=["weight", "sick"], force=True)
    at = time.time()
    words = {"killed": "trainings of five sick cells", "moment": "each attempt", "goes_on": "by itself"}
    outcomes = world.recover(run_id, at, state="failed", **words)
    assert outcomes == ALL_PUBLISHED | dict.fromkeys(
        (f"sick/{country}" for country in ("GB", "FR", "DE", "ES", "IT")), "failed"
    )
    reasons = {row.country: row.reason for row in world.rows("outcomes_of", run_id=run_id) if row.model == "sick"}
    killers = {country for country, reason in reasons.items() if reason.startswith("Killed the worker 2 times")}
    assert killers == {"GB", "DE", "IT"}
    assert "MemoryError" in reasons["FR"]
    assert reasons["ES"].startswith("CellTimeout")


def is_broken(stack) -> bool:
    """Whether `make run` would end now, with an error that names what has died."""
    try:
        stack.check()
    except EmbeddedError:
        return True
    return False


def cycle(world: World, until) -> str:
    """The shop writes, ingest lands it and wakes a retraining, some of whose cells have got their outcomes."""
    retail.advance(world.stack.postgres.dsn("shop"), until, world.stack.paths.state / "cache")
    time.sleep(world.catalog.source("order_lines").max_commit_lag.total_seconds())
    replay.ingest(world.stack, SHOP.source, Console())
    run_id = replay.await_plan(world.stack, SHOP.fleet, [SHOP.source])
    wait_until(lambda: world.decided(run_id) >= 3)
    return run_id


def test_the_scheduler_and_then_postgres_killed_amidst_a_run_of_the_shop(world):
    replay.prepare(SHOP, world.stack)
    run_id = cycle(world, datetime(2010, 3, 1, tzinfo=UTC))
    left = world.sessions()
    first = kill(world.stack.processes._children["scheduler"].pid)
    with pytest.raises(ChildFailed, match="scheduler ended with code -9"):
        wait_until(lambda: world.stack.check())
    world.start_again()
    assert are_gone(left)
    goes_on_from = world.decided(run_id)
    wait_until(lambda: world.decided(run_id) >= goes_on_from + 3)
    left = world.sessions()
    second = kill(world.stack.postgres._pidfile().pid)
    with pytest.raises(PostgresFailed):
        wait_until(lambda: world.stack.check())
    world.stack.stop()
    assert are_gone(left)
    world.start_again()
    words = {"moment": "a run of the shop", "goes_on": "with the next `make run`"}
    world.recover(run_id, first, killed="scheduler", **words)
    outcomes = world.recover(run_id, second, killed="PostgreSQL", **words)
    assert len(outcomes) == len(world.catalog.fleet("shop").cells())
    assert set(outcomes.values()) <= {"published", "kept", "inconclusive"}
