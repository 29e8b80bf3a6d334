"""Plan: which cells of a fleet are due, written down as pending outcomes."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from perennial.catalog import Catalog, FleetSpecs
from perennial.cell import Cell
from perennial.errors import AlreadyDecided, RequestError
from perennial.resources import Resources
from perennial.shell.database import Connection, Json, connect, fetch, fetch_one, run, transaction
from perennial.shell.registry import bound_elsewhere, reading_differently

logger = logging.getLogger(__name__)

DataTimes = dict[str, dict[str, datetime]]  # by source and country

SECONDS_PER_ROW = 1e-5
HELD_REASON = 300
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run was asked for; None means all.

    ``as_of``: train as of that time, on what was known then, as a backfill does.
    """

    models: tuple[str, ...] | None = None
    countries: tuple[str, ...] | None = None
    force: bool = False
    dry_run: bool = False
    as_of: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The request as it is stored with the run."""
        return {**asdict(self), "as_of": self.as_of.isoformat() if self.as_of else None}


def moment(text: str) -> datetime:
    """A moment somebody wrote in ISO 8601, in UTC unless it says otherwise. Raises RequestError."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(f"{text!r} is no moment. Write one such as 2011-06-01 or 2011-06-01T12:00:00Z.") from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run's plan: how many cells are due, and how many workers that is worth."""

    cells: int
    workers: int


def plan(resources: Resources, catalog: Catalog, fleet_name: str, run_id: str, request: Request) -> Plan:
    """Write the run and its due cells; planning the same run again changes nothing.

    Raises RequestError for a model, country or combination that the fleet does not have, and AlreadyDecided, naming what to
    do, for a run that has ended and of which cells failed: outcomes are final, so clearing it trains nothing.
    """
    specs = catalog.fleet(fleet_name)
    wanted = requested_cells(specs, request)
    database = connect(resources.database)
    try:
        planned = fetch_one(database, "run_of", id=run_id)
        if planned is None:
            _write(database, specs, run_id, request, wanted)
        elif planned.finished_at is not None:
            _check_none_failed(database, specs, run_id)
        pending = fetch_one(database, "count_pending", run_id=run_id).number
    finally:
        database.close()
    return Plan(cells=pending, workers=min(specs.fleet.workers, pending))


def _check_none_failed(database: Connection, specs: FleetSpecs, run_id: str) -> None:
    failed = fetch(database, "failed_of", run_id=run_id)
    if failed:
        models, countries = ({getattr(row, axis) for row in failed} for axis in ("model", "country"))
        raise AlreadyDecided(
            f"Run {run_id} is decided, and its outcomes are final: {len(failed)} of {failed[0].cells} cells failed. "
            f"Clearing it trains nothing. Mend the cause and trigger a new run of retrain_{specs.fleet.name} with "
            f"force, models {', '.join(sorted(models))} and countries {', '.join(sorted(countries))}."
        )


def requested_cells(specs: FleetSpecs, request: Request) -> list[Cell]:
    """The matrix's cells that a request names. Raises RequestError, naming what does not exist."""
    matrix = specs.cells()
    models, countries = {cell.model for cell in matrix}, {cell.country for cell in matrix}
    _check_known("model", request.models, models, specs.fleet.name)
    _check_known("country", request.countries, countries, specs.fleet.name)
    chosen = [
        cell
        for cell in matrix
        if (request.models is None or cell.model in request.models)
        and (request.countries is None or cell.country in request.countries)
    ]
    if not chosen:
        raise RequestError(f"None of these models has any of these countries in fleet {specs.fleet.name}.")
    return chosen


def _check_known(axis: str, asked: Iterable[str] | None, known: set[str], fleet: str) -> None:
    strangers = sorted(set(asked or ()) - known)
    if strangers:
        raise RequestError(f"Fleet {fleet} has no {axis} {', '.join(strangers)}. It has: {', '.join(sorted(known))}.")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A planned cell: its expected seconds, and whether its country had rows accepted since the fleet's last plan."""

    cell: Cell
    source: str
    cost: float
    is_fresh: bool


def _write(database: Connection, specs: FleetSpecs, run_id: str, request: Request, wanted: list[Cell]) -> None:
    as_of = {name: _as_of(database, name, request.as_of) for name in specs.sources}
    held = _held(database, specs, wanted)
    planned, left_out = _planned(database, specs, request, wanted, as_of)
    left_out = {cell: why for cell, why in left_out.items() if cell not in held}
    left_out |= _not_there(request, wanted)
    with transaction(database):
        run(
            database,
            "add_run",
            id=run_id,
            fleet=specs.fleet.name,
            requested=Json(request.as_json()),
            as_of=Json(_stored(as_of)),
            left_out=Json(_told(left_out)),
        )
        _write_cells(database, specs, run_id, planned, held)
    logger.info("%s: planned %s of %s cells", run_id, len(planned), len(wanted))


def _not_there(request: Request, wanted: list[Cell]) -> dict[Cell, str]:
    """The cells of a request that the fleet does not have, beside others that it has."""
    countries = request.countries or ()
    asked = {Cell(model, country) for model in request.models or () for country in countries}
    return {cell: f"Model {cell.model} has no country {cell.country}." for cell in asked - set(wanted)}


def _told(left_out: dict[Cell, str]) -> dict[str, dict[str, Any]]:
    """By reason: how many cells are left out for it, and the first of them. The log names all."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for cell, why in sorted(left_out.items()):
        by_reason[why].append(str(cell))
    for why, cells in by_reason.items():
        logger.info("Not planned: %s (%s): %s", ", ".join(cells), len(cells), why)
    return {why: {"cells": len(cells), "first": cells[:SHOWN]} for why, cells in by_reason.items()}


def _write_cells(database: Connection, specs: FleetSpecs, run_id: str, planned: list[Planned], held: dict[Cell, str]) -> None:
    run(
        database,
        "add_outcomes",
        run_id=run_id,
        models=[each.cell.model for each in planned],
        countries=[each.cell.country for each in planned],
        sources=[each.source for each in planned],
        costs=[each.cost for each in planned],
        fresh=[each.is_fresh for each in planned],
        held=[held.get(each.cell, "") for each in planned],
    )
    due = {each.cell for each in planned}
    waiting = [cell for cell in held if cell not in due]
    run(
        database,
        "add_held_outcomes",
        run_id=run_id,
        models=[cell.model for cell in waiting],
        countries=[cell.country for cell in waiting],
        sources=[specs.models[cell.model].source for cell in waiting],
        held=[held[cell] for cell in waiting],
    )


def _planned(
    database: Connection, specs: FleetSpecs, request: Request, wanted: list[Cell], as_of: DataTimes
) -> tuple[list[Planned], dict[Cell, str]]:
    """The cells that could be due by the ledger alone, refused ones always; and why others are not.

    The worker that takes a cell looks at its rows.
    """
    models, countries = [cell.model for cell in wanted], [cell.country for cell in wanted]
    past = {Cell(row.model, row.country): row for row in fetch(database, "past_of", models=models, countries=countries)}
    ledgers = {(source, row.country): row for source in specs.sources for row in fetch(database, "decided_rows", source=source)}
    before = fetch_one(database, "newest_run", fleet=specs.fleet.name)
    anew = reading_differently(database, wanted) | _to_carry_over(database, wanted)
    planned, left_out = [], {}
    for cell in wanted:
        source = specs.models[cell.model].source if cell.model in specs.models else ""
        ledger, last = ledgers.get((source, cell.country)), past[cell]
        reached = as_of[source].get(cell.country) if ledger else None
        why = _why_not_due(cell, source, last.as_of, reached, request, cell in anew)
        if why and cell.model not in specs.refused:
            left_out[cell] = why
        else:
            cost = last.seconds or SECONDS_PER_ROW * (int(ledger.rows) if ledger else 0)
            is_fresh = before is None or (ledger is not None and ledger.decided_at >= before.planned_at)
            planned.append(Planned(cell=cell, source=source, cost=cost, is_fresh=is_fresh))
    return planned, left_out


def _to_carry_over(database: Connection, wanted: list[Cell]) -> set[Cell]:
    """The cells whose champion another scikit-learn has fitted: each is due once, to be tried here, and rebuilt if need be."""
    here = version("scikit-learn")
    found = bound_elsewhere(database, wanted, here)
    due = [cell for cell, row in found.items() if not row.refusal]
    if due:
        fitted_by = ", ".join(sorted({found[cell].fitted_by for cell in due}))
        logger.warning(
            "Due, for their champions were fitted by scikit-learn %s and %s is installed here: %s (%s)",
            fitted_by,
            here,
            ", ".join(map(str, due)),
            len(due),
        )
    return set(due)


def _held(database: Connection, specs: FleetSpecs, wanted: list[Cell]) -> dict[Cell, str]:
    """Of the cells whose country's newest batch is held: which one, and why. Cells that are not due for it say so, too."""
    held = {
        (source, row.country): f"Batch {source}/{row.country} {row.seq} is held: {row.reason[:HELD_REASON]}"
        for source in specs.sources
        for row in fetch(database, "newest_held", source=source)
    }
    sources = {cell: specs.models[cell.model].source for cell in wanted if cell.model in specs.models}
    return {cell: held[source, cell.country] for cell, source in sources.items() if (source, cell.country) in held}


def _as_of(database: Connection, source: str, asked: datetime | None) -> dict[str, datetime]:
    """The data time of each country that has one: how far its accepted rows reach, or as far as was asked for."""
    rows = fetch(database, "as_of", source=source)
    return {row.country: row.as_of if asked is None else min(row.as_of, asked) for row in rows}


def _stored(as_of: DataTimes) -> dict[str, dict[str, str]]:
    return {name: _iso(countries) for name, countries in as_of.items() if countries}


def _iso(countries: dict[str, datetime]) -> dict[str, str]:
    return {country: reached.isoformat() for country, reached in countries.items()}


def _why_not_due(
    cell: Cell,
    source: str,
    asked: datetime | None,
    reached: datetime | None,
    request: Request,
    reads_anew: bool,
) -> str:
    """Empty where a country has got past the data time that its cell was last asked at.

    One without a data time has nothing to learn.
    """
    if reached is None:
        return f"Source {source} has no accepted rows for {cell.country}."
    if request.force or reads_anew or asked is None or reached > asked:
        return ""
    if request.as_of is not None and request.as_of < asked:
        until = f"{request.as_of:%Y-%m-%d %H:%M}"
        return f"It was judged as of later than {until} already. Force asks again."
    return "No row later than those that it was last judged on is accepted."
