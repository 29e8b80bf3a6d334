"""Train: a worker takes cell after cell of a run's queue until none is left."""

import faulthandler
import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, NoReturn

from perennial.catalog import Catalog, FleetSpecs
from perennial.cell import Cell
from perennial.core.messages import Loss
from perennial.errors import CellTimeout, Refused, RegistryError, StaleVerdict, Unreachable
from perennial.failures import reason_of, trace_of
from perennial.resources import Resources
from perennial.shell.database import Connection, Json, connect, fetch, fetch_one, run
from perennial.shell.forks import original_only
from perennial.shell.lake import Reader, row_columns
from perennial.shell.lifeline import lifeline
from perennial.shell.own_world import own_world
from perennial.spec import Model, Source
from perennial.steps.cell import Timings, released_outcome, train_cell
from perennial.steps.material import Job, Outcome
from perennial.steps.tell import tell_of_losses
from perennial.steps.verifier import Verifier
from perennial.steps.waiting import Waiting

logger = logging.getLogger(__name__)

DEATHS_ALLOWED = 1
JUDGEMENTS_PER_ATTEMPT = 5
POLL_SECONDS = 0.5
HARD_LIMIT = 1.5
GRACE = timedelta(minutes=5)  # of an attempt, beyond its time limits: until its process is gone
STOPPED = 128 + signal.SIGTERM
LOST_SESSION = "Perennial's database went away, and with it the cell's lock: this training ends. A retry goes on from here."


class Stopped(SystemExit):
    """The training was told to stop."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One worker of a run: what it may touch, and which specs the run is about."""

    run: Any
    specs: FleetSpecs
    catalog: Catalog
    resources: Resources
    database: Connection
    verifier: Verifier
    name: str
    waiting: Waiting
    readers: dict[str, Reader] = field(default_factory=dict)

    def reader(self, source: Source) -> Reader:
        """Reads all that the fleet's models read of a source, once for those that follow one another."""
        if source.name not in self.readers:
            models = [model for model in self.specs.models.values() if model.source == source.name]
            columns = set().union(*(row_columns(source, model.columns) for model in models))
            self.readers[source.name] = Reader(self.resources.store, source, columns)
        return self.readers[source.name]


def train(resources: Resources, catalog: Catalog, run_id: str) -> dict[str, int]:
    """Take the run's pending cells one by one until each has an outcome; returns outcomes of this worker by state.

    One failing cell never stops the others. Raises Unreachable when registry or store go away, and ends the process when
    that happens amidst a training: its lock is gone, and another one may begin. The retry goes on.
    """
    with Verifier(resources) as verifier:
        # What a crash of the server takes back is done again; the release that a pointer follows waits for the disk.
        database = connect(resources.database, waits_for_disk=False)
        try:
            planned = fetch_one(database, "run_of", id=run_id)
            if planned is None:
                raise RegistryError(f"Run {run_id} has no plan. Start the run from its plan task.")
            worker = Worker(
                run=planned,
                specs=catalog.fleet(planned.fleet),
                catalog=catalog,
                resources=resources,
                database=database,
                verifier=verifier,
                waiting=Waiting(database),
                name=worker_name(os.getpid()),
            )
            with lifeline(database.fileno(), LOST_SESSION):
                return dict(Counter(outcome.state for outcome in _work(worker)))
        finally:
            database.close()


def worker_name(pid: int | None) -> str:
    """How a training process is named in the attempts it starts."""
    return f"{socket.gethostname()}:{pid}"


def _work(worker: Worker) -> Iterator[Outcome]:
    last: Cell | None = None
    while True:
        taken, held = _take(worker, last)
        if taken is not None:
            last = Cell(taken.model, taken.country)
            try:
                outcome = _attempt(worker, last, taken)
            finally:
                _unlock(worker, last)
            if outcome is not None:
                yield outcome
        elif held:
            time.sleep(POLL_SECONDS)
        else:
            return


def _take(worker: Worker, last: Cell | None) -> tuple[Any | None, int]:
    """The best pending cell, locked by this session, with its attempt begun; and how many others hold when there is none."""
    source = worker.specs.models[last.model].source if last and last.model in worker.specs.models else None
    near = last.country if last else None
    while found := fetch_one(worker.database, "lock_next", run_id=worker.run.id, source=source, near=near):
        begun = _begin(worker, Cell(found.model, found.country))
        if begun is not None:
            return begun, 0
    return _take_tried(worker)


def _take_tried(worker: Worker) -> tuple[Any | None, int]:
    """The same where no cell is left that was never tried: among those to be tried again, and those that others hold.

    A cell that another run is training gets its outcome here: it is not waited for. Nor, in the
    end, is one whose lock somebody holds who trains nothing.
    """
    held = 0
    for row in fetch(worker.database, "pending", run_id=worker.run.id):
        cell = Cell(row.model, row.country)
        if not fetch_one(worker.database, "lock_cell", model=cell.model, country=cell.country).locked:
            held += not (_leave_to_other_run(worker, cell) or _give_up_waiting(worker, cell))
            continue
        worker.waiting.over(cell)
        begun = _begin(worker, cell)
        if begun is not None:
            return begun, held
    return None, held


def _begin(worker: Worker, cell: Cell) -> Any | None:
    """What a locked cell has come to in this run, its attempt begun if it may be; None, and unlocked, where it is decided.

    Asked in a statement after the lock's: what the lock's former holder has written is seen.
    """
    begun = fetch_one(
        worker.database,
        "start_attempt",
        run_id=worker.run.id,
        model=cell.model,
        country=cell.country,
        worker=worker.name,
        deaths_allowed=DEATHS_ALLOWED,
    )
    if begun.is_pending:
        return begun
    _unlock(worker, cell)
    return None


def _leave_to_other_run(worker: Worker, cell: Cell) -> bool:
    other = fetch_one(worker.database, "other_run_training", run_id=worker.run.id, model=cell.model, country=cell.country)
    if other is None:
        return False
    _decide(worker, cell, Outcome(state="skipped", reason=f"Run {other.run_id} is training it."))
    return True


def _give_up_waiting(worker: Worker, cell: Cell) -> bool:
    model = worker.specs.models.get(cell.model)
    limit = model.time_limit if model else timedelta()
    reason = worker.waiting.on(cell, limit * HARD_LIMIT + GRACE)
    if reason:
        _decide(worker, cell, Outcome(state="failed", reason=reason))
    return bool(reason)


def _unlock(worker: Worker, cell: Cell) -> None:
    if not worker.database.closed:
        run(worker.database, "unlock_cell", model=cell.model, country=cell.country)


def _attempt(worker: Worker, cell: Cell, begun: Any) -> Outcome | None:
    """Train one cell and record how it went; None when it stays pending for a later attempt."""
    released = released_outcome(worker.database, cell, worker.run.id) if begun.is_released else None
    if released is not None:
        return _decide(worker, cell, released)
    if begun.attempt is None:
        reason = f"Killed the worker {begun.deaths} times, last {begun.worker}. See the end of that task's log."
        return _decide(worker, cell, Outcome(state="failed", reason=reason))
    print(f"::group::{cell}", flush=True)
    try:
        return _isolated(worker, cell, begun)
    finally:
        print("::endgroup::", flush=True)


def _isolated(worker: Worker, cell: Cell, begun: Any) -> Outcome | None:
    """The one place where a cell's error is kept from the others.

    A registry or store that is away is not a cell's error; what they refuse is.
    """
    timings, started, trace = Timings(), time.perf_counter(), None
    losses: list[Loss] = []
    try:
        model = worker.specs.model(cell.model)
        with own_world(), time_limit(cell, model), original_only():
            outcome: Outcome | None = _judge_until_current(_job(worker, model, cell.country, losses), timings)
    except Unreachable:
        raise
    except Stopped as stopped:
        ended = _ended(worker, cell, begun.attempt, stopped.__doc__, timings)
        run(worker.database, "end_attempt", **ended, is_acquitted=True)
        raise
    except Exception as error:
        trace = trace_of(error)
        logger.error("%s failed at attempt %s\n%s", cell, begun.attempt, trace)
        outcome = _after_error(worker, cell, begun.tries + 1, error)
    ended = _ended(worker, cell, begun.attempt, trace, timings)
    if outcome is None:
        run(worker.database, "end_attempt", **ended, is_acquitted=False)
    else:
        run(worker.database, "end_and_decide", **ended, **asdict(outcome), seconds=time.perf_counter() - started)
    if losses:
        tell_of_losses(worker.resources, worker.catalog, worker.specs.fleet.name, losses, worker.run.id)
    if outcome is not None:
        logger.info("%s: %s. %s %s", cell, outcome.state, outcome.reason, timings.seconds)
    return outcome


def _after_error(worker: Worker, cell: Cell, tries: int, error: Exception) -> Outcome | None:
    released = released_outcome(worker.database, cell, worker.run.id)
    if released is not None:
        return released
    allowed = worker.specs.models[cell.model].attempts if cell.model in worker.specs.models else 1
    if tries < allowed and not isinstance(error, Refused):
        return None
    return Outcome(state="failed", reason=reason_of(error))


def _judge_until_current(job: Job, timings: Timings) -> Outcome:
    for _ in range(JUDGEMENTS_PER_ATTEMPT):
        try:
            return train_cell(job, timings)
        except StaleVerdict as stale:
            logger.info("%s Judging again.", stale)
    raise StaleVerdict(f"{job.cell} moved {JUDGEMENTS_PER_ATTEMPT} times while it was judged.")


def _job(worker: Worker, model: Model, country: str, losses: list[Loss]) -> Job:
    source, requested = worker.catalog.source(model.source), worker.run.requested
    return Job(
        run_id=worker.run.id,
        model=model,
        source=source,
        country=country,
        as_of=datetime.fromisoformat(worker.run.as_of[model.source][country]),
        known_until=datetime.fromisoformat(requested["as_of"]) if requested["as_of"] else None,
        force=bool(requested["force"]),
        dry_run=bool(requested["dry_run"]),
        resources=worker.resources,
        database=worker.database,
        verifier=worker.verifier,
        reader=worker.reader(source),
        losses=losses,
    )


def _ended(worker: Worker, cell: Cell, attempt: int, error: str | None, timings: Timings) -> dict[str, Any]:
    """How an attempt went, as queries are told."""
    return {
        "run_id": worker.run.id,
        **cell._asdict(),
        "attempt": attempt,
        "error": error,
        "timings": Json(timings.seconds),
    }


def _decide(worker: Worker, cell: Cell, outcome: Outcome) -> Outcome:
    run(worker.database, "decide", run_id=worker.run.id, **cell._asdict(), **asdict(outcome))
    return outcome


def stop(*_: object) -> NoReturn:
    """Handle SIGTERM: end the process after its attempt is closed, so that being told to stop is no cell's death."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped(STOPPED)


@contextmanager
def time_limit(cell: Cell, model: Model) -> Iterator[None]:
    """Raise CellTimeout at the model's limit. Code that never returns to Python ends the process a while later."""

    def interrupt(*_: object) -> None:
        raise CellTimeout(f"{cell} met its time limit of {model.time_limit}.")

    seconds = model.time_limit.total_seconds()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds * HARD_LIMIT, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
