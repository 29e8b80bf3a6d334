"""Work: a run's cells are trained in a process of their own, so that a cell that ends its process ends no worker."""

import logging
import multiprocessing
import signal
import traceback
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import ForkProcess

from perennial.catalog import Catalog
from perennial.errors import PerennialError, Refused, RegistryError
from perennial.resources import Resources
from perennial.shell.database import connect, fetch_one
from perennial.shell.lifeline import lifeline
from perennial.steps.train import STOPPED, stop, train, worker_name

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
FAREWELL_SECONDS = 10
Answer = tuple[str, str] | dict[str, int]


def work(resources: Resources, catalog: Catalog, run_id: str) -> dict[str, int]:
    """Train as ``train`` does; where a cell has ended the process it was trained in, another one goes on at once.

    Returns outcomes by state of the last process. Raises RegistryError when a process ends that trained no cell, and
    PerennialError when it was told to stop.
    """
    while True:
        process, answer = _one_process(resources, catalog, run_id)
        if isinstance(answer, dict):
            return answer
        if answer is not None:
            kind, message = answer
            raise (Refused if kind == "refused" else PerennialError)(message)
        if process.exitcode in (STOPPED, -signal.SIGTERM):
            raise PerennialError("The training was told to stop. A retry goes on from here.")
        logger.error("The process that trained ended with code %s. Another one goes on.", process.exitcode)
        _check_was_training(resources, run_id, process)


def _one_process(resources: Resources, catalog: Catalog, run_id: str) -> tuple[ForkProcess, Answer | None]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(theirs, ours, resources, catalog, run_id))
    process.start()
    theirs.close()
    try:
        answer = _answer(ours, process)
        process.join(FAREWELL_SECONDS)
        return process, answer
    finally:
        ours.close()
        process.kill()
        process.join()


def _answer(pipe: Pipe, process: ForkProcess) -> Answer | None:
    """What the process answers; None when it has ended without a word."""
    while not pipe.poll(POLL_SECONDS) and process.is_alive():
        pass
    try:
        answer: Answer | None = pipe.recv() if pipe.poll() else None
    except EOFError:
        return None
    return answer


def _check_was_training(resources: Resources, run_id: str, process: ForkProcess) -> None:
    """Raise RegistryError unless it left an attempt: each cell may end two processes, so going on comes to an end."""
    database = connect(resources.database)
    try:
        left = fetch_one(database, "unfinished_attempts_of", run_id=run_id, worker=worker_name(process.pid))
    finally:
        database.close()
    if not left.number:
        raise RegistryError(f"The process that trained ended with code {process.exitcode} outside of any cell. See the log.")


def _train(pipe: Pipe, parents: Pipe, resources: Resources, catalog: Catalog, run_id: str) -> None:
    parents.close()
    signal.signal(signal.SIGTERM, stop)
    with lifeline(pipe.fileno(), "The worker has gone, and its training with it."):
        pipe.send(_trained(resources, catalog, run_id))


def _trained(resources: Resources, catalog: Catalog, run_id: str) -> Answer:
    try:
        return train(resources, catalog, run_id)
    except Refused as error:
        return "refused", str(error)
    except PerennialError as error:
        return "failed", str(error)
    except Exception:
        return "failed", traceback.format_exc()
