"""Work: a run's cells are trained in a process of their own, so that a cell that ends its process ends no worker."""

import logging
from contextlib import closing

from perennial.catalog import Catalog
from perennial.errors import PerennialError, RegistryError
from perennial.resources import Resources
from perennial.shell.child import Ended, in_child
from perennial.shell.database import connect, fetch_one
from perennial.steps.train import stop, train, worker_name

logger = logging.getLogger(__name__)

ORPHANED = "The worker has gone, and its training with it."


def work(resources: Resources, catalog: Catalog, run_id: str) -> dict[str, int]:
    """Train as ``train`` does; where a cell has ended the process it was trained in, another one goes on at once.

    Returns outcomes by state of the last process. Raises RegistryError when a process ends that trained no cell, and
    PerennialError when it was told to stop. Its cells have limits of their own, so it has none.
    """
    while True:
        ended = in_child(lambda line: train(resources, catalog, run_id), orphaned=ORPHANED, on_stop=stop)
        if ended.answer is not None:
            return ended.result()  # type: ignore[no-any-return]
        if ended.was_stopped:
            raise PerennialError("The training was told to stop. A retry goes on from here.")
        logger.error("The process that trained ended with code %s. Another one goes on.", ended.exit_code)
        _check_was_training(resources, run_id, ended)


def _check_was_training(resources: Resources, run_id: str, ended: Ended) -> None:
    """Raise RegistryError unless it left an attempt: each cell may end two processes, so going on comes to an end."""
    with closing(connect(resources.database)) as database:
        left = fetch_one(database, "unfinished_attempts_of", run_id=run_id, worker=worker_name(ended.pid))
    if not left.number:
        raise RegistryError(f"The process that trained ended with code {ended.exit_code} outside of any cell. See the log.")
