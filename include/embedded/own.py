"""One's own fleet on the embedded stack: ingest from where its sources point, retrain, show what came of it."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from rich.console import Console

from embedded import connections, replay
from embedded.components import EXAMPLE_CONNECTIONS, source_connections
from embedded.errors import EmbeddedError, NothingAccepted
from embedded.examples import EXAMPLES, Example
from embedded.running import Stack
from perennial.catalog import Catalog, FleetSpecs
from perennial.connections import connection_of, dsn_of, store_of, variable_of
from perennial.errors import RequestError, SpecError
from perennial.shell import file_source, postgres_source
from perennial.shell.store import open_store
from perennial.spec import FileSource, Source

FREQUENCIES = {"month": "MS", "week": "7D", "day": "D", "hour": "h", "quarter": "15min"}
UNSCHEDULED = {("scheduler", "use_job_schedule"): False}  # in a replay only what it triggers runs: neither cron nor events
SHOWN = 5
HELD = """
SELECT country, seq, reason FROM batches WHERE source = %s AND state = 'quarantined' ORDER BY seq, country LIMIT %s
"""
REFUSED = "SELECT name, reason FROM files WHERE source = %s AND state = 'refused' ORDER BY modified_at DESC LIMIT %s"
COUNTED = "SELECT count(*) FROM batches WHERE source = ANY(%s) AND state = 'accepted'"
PLANNED = "SELECT id FROM runs WHERE fleet = %s AND planned_at > %s ORDER BY planned_at"
DAYS = "SELECT min(day), max(day) + 1 FROM days WHERE source = ANY(%s) AND rows > 0"


@dataclass(frozen=True, kw_only=True)
class Own:
    """A fleet of the deployed specs, and its sources."""

    catalog: Catalog
    specs: FleetSpecs

    @property
    def fleet(self) -> str:
        """Its name."""
        return self.specs.fleet.name

    @property
    def sources(self) -> list[Source]:
        """What its models read."""
        return [self.catalog.source(name) for name in self.specs.sources]

    @property
    def connections(self) -> list[str]:
        """The names of the Connections that it needs."""
        return connections.needed(self.catalog, self.specs.sources)


def example_of(fleet: str) -> Example | None:
    """The example of that name; none where the specs are not this tree's own."""
    return None if os.environ.get("PERENNIAL_MODELS") else EXAMPLES.get(fleet)


def own_fleet(catalog: Catalog, name: str) -> Own:
    """A fleet that can run. Raises RequestError or SpecError with everything that keeps it from running."""
    if name not in catalog.fleets:
        raise RequestError("\n".join([_no_fleet(catalog, name), *map(str, catalog.all_faults())]))
    specs = catalog.fleet(name)
    if not specs.models:
        faults = [fault for refused in specs.refused.values() for fault in refused.faults]
        raise SpecError([*faults, *catalog.faults]) if faults else RequestError(_no_models(name))
    return Own(catalog=catalog, specs=specs)


def _no_fleet(catalog: Catalog, name: str) -> str:
    known = ", ".join(catalog.fleets) or "none"
    return f"There is no fleet {name!r}. There are: {known}. `make new-model FLEET={name} NAME=… SOURCE=…` makes one."


def _no_models(name: str) -> str:
    return f"Fleet {name} has no model. `make new-model FLEET={name} NAME=… SOURCE=…` writes one."


def refuse_early(own: Own, stack: Stack) -> None:
    """Raise ConnectionsError before anything is started, where no former run can know the Connections that are missing."""
    if not (stack.paths.postgres / "PG_VERSION").exists():
        connections.refuse_missing(own.connections, [*connections.given(), *map(variable_of, EXAMPLE_CONNECTIONS)])


def prepare(own: Own, stack: Stack, console: Console) -> None:
    """Look at every source, and let the scheduler run what ingests them.

    Raises ConnectionsError, SourceError, SourceMismatch or NothingAccepted, with what to do.
    """
    known = source_connections(stack.postgres, stack.paths)
    connections.refuse_missing(own.connections, [*known, *_of_airflow(stack)])
    for source in own.sources:
        if variable_of(source.connection) in known:
            _look_at(source, known, console)
    replay.unpause(stack, *(f"ingest_{source.name}" for source in own.sources))


def _of_airflow(stack: Stack) -> list[str]:
    """The Connections that somebody has added in Airflow's UI."""
    with stack.postgres.connect("airflow") as database, database.cursor() as cursor:
        cursor.execute("SELECT conn_id FROM connection")
        return [variable_of(name) for (name,) in cursor.fetchall()]


def _look_at(source: Source, known: dict[str, str], console: Console) -> None:
    connection = connection_of(source.connection, known)
    if isinstance(source, FileSource):
        _await_files(source, open_store(*store_of(connection)), console)
        return
    with postgres_source.connected(dsn_of(connection), source) as database:
        postgres_source.check_moments(database, source)
        if not postgres_source.is_standby(database):
            postgres_source.look(database, source)


def _await_files(source: FileSource, store: Any, console: Console) -> None:
    """Wait until the newest file has lain still for as long as the source asks. Raises NothingAccepted without files."""
    entries, clock = file_source.look(store, source)
    if not entries:
        raise NothingAccepted(
            f"Source {source.name}: {store.url}/{source.prefix} holds no file whose name is as the spec says "
            f"({source.file_names}). Put one there, or correct prefix or pattern in {source.where}."
        )
    left = (entries[-1].modified + source.quiet - clock).total_seconds()
    if left > 0:
        console.print(f"{source.name}: waiting {left:.0f} s, until the newest file has not changed for {source.quiet} …")
        time.sleep(left)


def cycle(own: Own, stack: Stack, console: Console) -> list[replay.Cycle]:
    """Ingest every source, and wait for the runs that this wakes, or start one where nothing new has come.

    Raises EmbeddedError when ingest fails, no row is accepted, or no run comes.
    """
    begun, before = datetime.now(UTC), _accepted(own, stack)
    replay.unpause(stack, f"retrain_{own.fleet}")
    ingest(own, stack, console)
    if _accepted(own, stack) == before:
        console.print("nothing new was accepted; asking what is due all the same")
        return [trigger(own, stack, {}, console)]
    replay.await_plan(stack, own.fleet, own.specs.sources)
    planned = [run_id for (run_id,) in _rows(stack, PLANNED, own.fleet, begun)]
    made = [replay.ended(stack, own.fleet, run_id, begun.timestamp(), console) for run_id in planned]
    return [each for each in made if each.outcomes or not each.is_good] or made[-1:]


def ingest(own: Own, stack: Stack, console: Console) -> None:
    """Ingest every source. Raises NothingAccepted, with the reasons on record, where one has no accepted row."""
    for source in own.sources:
        console.print(f"[bold]{source.name}[/bold]: ingesting")
        replay.ingest(stack, source.name, console)
        held = _rows(stack, HELD, source.name, SHOWN)
        for country, seq, reason in held:
            console.print(f"held: batch {source.name}/{country} {seq}: {reason}", style="yellow", markup=False)
        if not replay.ask(stack, "as_of", source=source.name):
            raise NothingAccepted(_nothing_accepted(source, stack, held))


def _nothing_accepted(source: Source, stack: Stack, held: Sequence[Any]) -> str:
    refused = _rows(stack, REFUSED, source.name, SHOWN)
    reasons = [f"file {name}: {reason}" for name, reason in refused]
    if held:
        reasons.append(f"Correct {source.where}, then trigger quarantine_{source.name} with `validate again`, or accept.")
    if not reasons:
        reasons.append(_nothing_new(source))
    return "\n".join([f"No row of source {source.name} is accepted.", *reasons])


def _nothing_new(source: Source) -> str:
    if isinstance(source, FileSource):
        return f"No file below {source.prefix} that has lain still for {source.quiet} holds a row."
    return f"Table {source.table} has no row that was written before the oldest transaction that is open in its database."


def trigger(own: Own, stack: Stack, conf: dict[str, Any], console: Console) -> replay.Cycle:
    """Start a run of the fleet, and wait for its end."""
    begun = time.time()
    run_id = f"{own.fleet}/{stack.api.trigger(f'retrain_{own.fleet}', conf)}"
    return replay.ended(stack, own.fleet, run_id, begun, console)


def moments(own: Own, stack: Stack, every: str, start: datetime | None) -> list[datetime]:
    """The data times of a replay: from ``start``, by default after a quarter of what is accepted, to its end."""
    ((first, last),) = _rows(stack, DAYS, list(own.specs.sources))
    begin, end = pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC")
    from_there = pd.Timestamp(start) if start else (begin + (end - begin) / 4).ceil("D")
    steps = pd.date_range(from_there, end, freq=FREQUENCIES[every])
    return [*steps[steps < end].to_pydatetime(), end.to_pydatetime()]


def checked(every: str | None) -> str:
    """How long a replay's step is. Raises EmbeddedError for one that is not known."""
    if every is not None and every not in FREQUENCIES:
        raise EmbeddedError(f"There is no step EVERY={every}. Choose one of {', '.join(FREQUENCIES)}.")
    return every or "month"


def retrace(own: Own, stack: Stack, steps: Sequence[datetime], console: Console, show: Callable[[replay.Cycle], None]) -> bool:
    """Train as of one moment after the other, each on nothing later; whether every run was good."""
    replay.unpause(stack, f"retrain_{own.fleet}")
    good = True
    for step in steps:
        console.print(f"as of [bold]{step:%Y-%m-%d %H:%M}[/bold]")
        made = trigger(own, stack, {"as_of": step.isoformat()}, console)
        show(made)
        good = good and made.is_good
    return good


def _accepted(own: Own, stack: Stack) -> int:
    ((number,),) = _rows(stack, COUNTED, list(own.specs.sources))
    return int(number)


def _rows(stack: Stack, statement: str, *values: Any) -> list[Any]:
    with stack.postgres.connect("perennial") as database, database.cursor() as cursor:
        cursor.execute("SET search_path = perennial")
        cursor.execute(statement, values)
        return list(cursor.fetchall())
