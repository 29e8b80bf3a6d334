"""Work: a run's cells are trained in a process of their own, so that a cell that ends its process ends no worker."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from perennial.catalog import Catalog
from perennial.errors import PerennialError, RegistryError, Unreachable
from perennial.resources import Resources
from perennial.shell.child import Ended, in_child
from perennial.shell.database import connect, fetch_one, run
from perennial.steps.train import stop, train, worker_name

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

ORPHANED = "The worker has gone, and its training with it."
LOSSES_ALLOWED = 5
PATIENCE_SECONDS = 300
POLL_SECONDS = 1
NOWHERE = "reachable/"  # nothing is ever stored below it


def work(resources: Resources, catalog: Catalog, run_id: str) -> dict[str, int]:
    """Train as ``train`` does, whatever ends the process that trains.

    Where a cell has ended it, another one goes on at once; where registry or store went away, as
    soon as they are back. Cells have limits of their own, so this has none.

    Returns outcomes by state of the last process. Raises Unreachable when registry or store stay
    away or went away too often, RegistryError when a process ends that trained no cell, and
    PerennialError when it was told to stop.
    """
    losses = 0
    while True:
        ended = in_child(lambda line: train(resources, catalog, run_id), orphaned=ORPHANED, on_stop=stop)
        if ended.lost:
            losses += 1
            _acquit(resources, run_id, ended.pid, ended.lost)
            _check_may_go_on(losses, ended.lost)
        elif ended.answer is not None:
            return ended.result()  # type: ignore[no-any-return]
        elif ended.was_stopped:
            raise PerennialError("The training was told to stop. A retry goes on from here.")
        else:
            logger.error("The process that trained ended with code %s. Another one goes on.", ended.exit_code)
            _check_was_training(resources, run_id, ended)


def _acquit(resources: Resources, run_id: str, pid: int | None, lost: Unreachable) -> None:
    """Record that the cell at work has not ended the process, once registry and store are back."""
    database = _when_back(lambda: connect(resources.database))
    with closing(database):
        run(database, "acquit_attempts", run_id=run_id, worker=worker_name(pid), error=str(lost))
    _when_back(lambda: resources.store.keys(NOWHERE))


def _when_back(reach: Callable[[], Found]) -> Found:
    """What is reached, waited for. Raises Unreachable when it stays away."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return reach()
        except Unreachable as error:
            if time.monotonic() > deadline:
                raise
            logger.warning("Waiting at most %s seconds more: %s", int(deadline - time.monotonic()), error)
        time.sleep(POLL_SECONDS)


def _check_may_go_on(losses: int, lost: Unreachable) -> None:
    if losses > LOSSES_ALLOWED:
        raise type(lost)(f"Registry or store went away {losses} times, the last time: {lost}")
    logger.warning("It is back, and the training goes on. %s", lost)


def _check_was_training(resources: Resources, run_id: str, ended: Ended) -> None:
    """Raise RegistryError unless it left an attempt: each cell may end two processes, so going on comes to an end."""
    with closing(connect(resources.database)) as database:
        left = fetch_one(database, "unfinished_attempts_of", run_id=run_id, worker=worker_name(ended.pid))
    if not left.number:
        raise RegistryError(f"The process that trained ended with code {ended.exit_code} outside of any cell. See the log.")
