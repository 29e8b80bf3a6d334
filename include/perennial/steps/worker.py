"""Work: a run's cells are trained in a process of their own, so that a cell that ends its process ends no worker."""

import logging
import time
from contextlib import closing

from perennial.catalog import Catalog
from perennial.errors import PerennialError, RegistryError, RegistryLost
from perennial.resources import Resources
from perennial.shell.child import Ended, in_child
from perennial.shell.database import Connection, connect, fetch_one, run
from perennial.steps.train import stop, train, worker_name

logger = logging.getLogger(__name__)

ORPHANED = "The worker has gone, and its training with it."
LOST_REGISTRY = "Perennial's database went away."
LOSSES_ALLOWED = 5
PATIENCE_SECONDS = 300
POLL_SECONDS = 1


def work(resources: Resources, catalog: Catalog, run_id: str) -> dict[str, int]:
    """Train as ``train`` does; where a cell has ended the process it was trained in, another one goes on at once, and where
    the registry went away, as soon as it is back.

    Returns outcomes by state of the last process. Raises RegistryLost when the registry stays away or went away too often,
    RegistryError when a process ends that trained no cell, and PerennialError when it was told to stop. Its cells have
    limits of their own, so it has none.
    """
    losses = 0
    while True:
        ended = in_child(lambda line: train(resources, catalog, run_id), orphaned=ORPHANED, on_stop=stop)
        if ended.has_lost_registry:
            losses += 1
            _acquit(resources, run_id, ended)
            _check_may_go_on(losses)
        elif ended.answer is not None:
            return ended.result()  # type: ignore[no-any-return]
        elif ended.was_stopped:
            raise PerennialError("The training was told to stop. A retry goes on from here.")
        else:
            logger.error("The process that trained ended with code %s. Another one goes on.", ended.exit_code)
            _check_was_training(resources, run_id, ended)


def _acquit(resources: Resources, run_id: str, ended: Ended) -> None:
    """Record that the cell at work has not ended the process, once the registry is back."""
    with closing(_when_back(resources)) as database:
        run(database, "acquit_attempts", run_id=run_id, worker=worker_name(ended.pid), error=LOST_REGISTRY)


def _when_back(resources: Resources) -> Connection:
    """A connection to the registry, waited for. Raises RegistryLost when it stays away."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return connect(resources.database)
        except RegistryLost as error:
            if time.monotonic() > deadline:
                raise
            logger.warning("Waiting for the registry, at most %s seconds more: %s", int(deadline - time.monotonic()), error)
        time.sleep(POLL_SECONDS)


def _check_may_go_on(losses: int) -> None:
    if losses > LOSSES_ALLOWED:
        raise RegistryLost(f"Perennial's database went away {losses} times. A retry goes on from here.")
    logger.warning("%s It is back, and the training goes on.", LOST_REGISTRY)


def _check_was_training(resources: Resources, run_id: str, ended: Ended) -> None:
    """Raise RegistryError unless it left an attempt: each cell may end two processes, so going on comes to an end."""
    with closing(connect(resources.database)) as database:
        left = fetch_one(database, "unfinished_attempts_of", run_id=run_id, worker=worker_name(ended.pid))
    if not left.number:
        raise RegistryError(f"The process that trained ended with code {ended.exit_code} outside of any cell. See the log.")
