"""Plan: which cells of a fleet are due, written down as pending outcomes."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from perennial.catalog import Catalog, FleetSpecs
from perennial.cell import Cell
from perennial.errors import RequestError
from perennial.resources import Resources
from perennial.shell.database import Connection, Json, connect, fetch, fetch_one, run, transaction
from perennial.shell.registry import reads_differently

logger = logging.getLogger(__name__)

SECONDS_PER_ROW = 1e-5


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run was asked for; None means all. ``as_of``: train as of that moment of the data, as a backfill does."""

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

    Raises RequestError for a model, country or combination that the fleet does not have.
    """
    specs = catalog.fleet(fleet_name)
    wanted = requested_cells(specs, request)
    database = connect(resources.database)
    try:
        planned = fetch_one(database, "run_of", id=run_id)
        if planned is None:
            _write(database, specs, run_id, request, wanted)
        pending = fetch(database, "pending", run_id=run_id, source=None, near=None)
    finally:
        database.close()
    return Plan(cells=len(pending), workers=min(specs.fleet.workers, len(pending)))


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


def _write(database: Connection, specs: FleetSpecs, run_id: str, request: Request, wanted: list[Cell]) -> None:
    as_of = {name: _as_of(database, name, request.as_of) for name in specs.sources}
    ledgers = {name: {row.country: row for row in fetch(database, "last_decided", source=name)} for name in specs.sources}
    seconds = {
        Cell(row.model, row.country): row.seconds
        for row in fetch(database, "last_seconds", models=sorted({cell.model for cell in wanted}))
    }
    planned = [
        (cell, source, _rows(ledgers, source, cell.country))
        for cell in wanted
        for source in (specs.models[cell.model].source if cell.model in specs.models else "",)
        if cell.model in specs.refused
        or (_rows(ledgers, source, cell.country) and _may_be_due(database, cell, as_of[source], request))
    ]
    with transaction(database):
        stored = {name: moment.isoformat() for name, moment in as_of.items() if moment is not None}
        run(
            database,
            "add_run",
            id=run_id,
            fleet=specs.fleet.name,
            requested=Json(request.as_json()),
            as_of=Json(stored),
        )
        for cell, source, rows in planned:
            cost = seconds.get(cell, SECONDS_PER_ROW * rows)
            run(database, "add_outcome", run_id=run_id, model=cell.model, country=cell.country, source=source, cost=cost)
    logger.info("%s: planned %s of %s cells", run_id, len(planned), len(wanted))


def _as_of(database: Connection, source: str, asked: datetime | None) -> datetime | None:
    row = fetch_one(database, "as_of", source=source)
    if row is None or row.as_of is None:
        return None
    newest: datetime = row.as_of
    return newest if asked is None else min(newest, asked)


def _rows(ledgers: dict[str, dict[str, Any]], source: str, country: str) -> int:
    """Accepted rows of a country, up to its first batch that is not validated yet."""
    row = ledgers.get(source, {}).get(country)
    return int(row.rows or 0) if row else 0


def _may_be_due(database: Connection, cell: Cell, as_of: datetime | None, request: Request) -> bool:
    """Whether the cell could be due by the ledger alone; the worker that takes it looks at its rows."""
    last = fetch_one(database, "last_verdict", model=cell.model, country=cell.country)
    if request.force or last is None or (as_of is not None and as_of > last.as_of):
        return True
    champion = fetch_one(database, "champion_of", model=cell.model, country=cell.country)
    return reads_differently(database, champion, last)
