"""Report: what a run came to, whether that is within the fleet's limit, who is told, and which champions moved."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from perennial.catalog import Catalog
from perennial.cell import Cell
from perennial.core.messages import Result
from perennial.errors import FleetFailed, NothingToDo
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one, run
from perennial.spec import Fleet
from perennial.steps.cell import released_outcome
from perennial.steps.material import Outcome
from perennial.steps.pointers import bring_into_step
from perennial.steps.tell import tell

logger = logging.getLogger(__name__)

ABANDONED = "Its run is over, and no worker brought it to an end. See the logs of the run's tasks."
SEE_LOG = "See that task's log."
UNFINISHED = "No worker brought it to an end. See the logs of the run's train tasks."


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """What whoever starts runs knows of them: the page of a run, and whether it is over, or gone."""

    page: Callable[[str], str] = lambda run_id: ""
    is_over: Callable[[str], bool] = lambda run_id: False


NOBODY = Scheduler()


def report(
    resources: Resources,
    catalog: Catalog,
    run_id: str,
    scheduler: Scheduler = NOBODY,
    why_no_plan: str = "",
) -> dict[str, int]:
    """Outcomes by state, after the owners were told. The fleet's runs that are over without a report are closed, too.

    Raises FleetFailed, naming each failed cell and cause, beyond the fleet's failure limit. A planned cell that no worker
    ended is failed here. A run without a plan has failed, for ``why_no_plan`` where its plan task
    said that; its id begins with the fleet's name. Raises RegistryLost when the
    registry goes away: a retry goes on, for a run is open until what its owners are told is written down.
    """
    if why_no_plan:
        logger.error("The plan task failed: %s", why_no_plan)
    with closing(connect(resources.database)) as database:
        planned = fetch_one(database, "run_of", id=run_id)
        fleet = catalog.fleet(planned.fleet if planned else run_id.partition("/")[0]).fleet
        outcomes = _decided(database, run_id, UNFINISHED) if planned else None
        result = Result(
            run_id=run_id,
            url=scheduler.page(run_id),
            outcomes=outcomes,
            limit=fleet.failure_limit,
            why_no_plan=why_no_plan,
        )
        _close(resources, catalog, database, fleet, result)
        _close_abandoned(resources, catalog, database, fleet, scheduler)
    if outcomes is None:
        why = why_no_plan or SEE_LOG
        raise FleetFailed(f"Run {run_id} has no plan: its plan task failed. {why}")
    _say_left_out(planned, outcomes)
    if result.is_beyond_limit:
        raise FleetFailed(_causes(outcomes, run_id))
    return dict(Counter(outcome.state for outcome in outcomes))


def _decided(database: Connection, run_id: str, reason: str) -> list[Any]:
    """Every outcome of a run; cells that no worker ended are failed for a reason."""
    for row in fetch(database, "pending", run_id=run_id):
        cell = Cell(row.model, row.country)
        outcome = released_outcome(database, cell, run_id) or Outcome(state="failed", reason=reason)
        run(database, "decide", run_id=run_id, **cell._asdict(), **asdict(outcome))
    outcomes = fetch(database, "outcomes_of", run_id=run_id)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.state != "failed"):
        level = logging.ERROR if outcome.state == "failed" else logging.INFO
        cell = Cell(outcome.model, outcome.country)
        logger.log(level, "%s: %s. %s", cell, outcome.state, outcome.reason)
    return outcomes


def _say_left_out(planned: Any, outcomes: list[Any]) -> None:
    """Which cells were not planned, and why: where none was, that is all there is to say."""
    if not outcomes:
        logger.warning("No cell of run %s was due, so nothing was trained.", planned.id)
    for why, left in planned.left_out.items():
        more = left["cells"] - len(left["first"])
        cells = ", ".join(left["first"]) + (f" and {more} more" if more else "")
        logger.info("Not planned: %s: %s", cells, why)


def _close(resources: Resources, catalog: Catalog, database: Connection, fleet: Fleet, result: Result) -> None:
    tell(resources, catalog, fleet.name, result)
    run(database, "finish_run", id=result.run_id)


def _close_abandoned(resources: Resources, catalog: Catalog, database: Connection, fleet: Fleet, scheduler: Scheduler) -> None:
    """Close the fleet's runs that are over, or gone, and whose own report never came to an end."""
    for each in fetch(database, "open_runs", fleet=fleet.name):
        if scheduler.is_over(each.id):
            logger.warning("Run %s is over without a report. It is closed here.", each.id)
            outcomes = _decided(database, each.id, ABANDONED)
            url = scheduler.page(each.id)
            result = Result(run_id=each.id, url=url, outcomes=outcomes, limit=fleet.failure_limit)
            _close(resources, catalog, database, fleet, result)


def _causes(outcomes: list[Any], run_id: str) -> str:
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    by_cause: dict[str, list[str]] = defaultdict(list)
    for outcome in failed:
        by_cause[outcome.reason].append(f"{outcome.model}/{outcome.country}")
    causes = "\n".join(f"{', '.join(cells)}: {reason}" for reason, cells in by_cause.items())
    return f"{len(failed)} of {len(outcomes)} cells of run {run_id} failed:\n{causes}"


def announce(resources: Resources, catalog: Catalog, fleet_name: str) -> list[str]:
    """Releases since the last wake-up call, as ``model/country/seq``, after their cells' pointers are in step.

    A pointer lags when its worker ended between release and pointer, and that release is not announced yet: these cells
    are all there is to look at. Raises NothingToDo when no champion of the fleet has moved.
    """
    asset = f"{fleet_name} released"
    models = list(catalog.fleet(fleet_name).models)
    database = connect(resources.database)
    try:
        releases = fetch(database, "unannounced_releases", models=models, asset=asset)
        if not releases:
            raise NothingToDo(f"No champion of fleet {fleet_name} has moved.")
        bring_into_step(resources, database, {Cell(release.model, release.country) for release in releases})
        items = [f"{release.model}/{release.country}/{release.seq}" for release in releases]
        run(database, "announce", asset=asset, items=items)
    finally:
        database.close()
    return items
