"""Cycles on the embedded stack: the world moves on, ingest and retrain follow, and what came of it is printed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from embedded.errors import EmbeddedError
from embedded.examples import Example
from embedded.running import Stack
from perennial.catalog import FleetSpecs, load_catalog
from perennial.shell.database import connect, fetch

POLL_SECONDS = 0.5
WAKE_SECONDS = 180
RUN_SECONDS = 3600
LONGEST_TABLE = 60
HOUR = timedelta(hours=1)
COLOURS = {"published": "green", "kept": "yellow", "inconclusive": "yellow", "failed": "red", "blocked": "magenta"}


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """What a cycle came to. ``seconds``: from the world's commit to the last release, or the end where none was made."""

    run_id: str
    state: str
    outcomes: list[Any]
    seconds: float

    @property
    def is_good(self) -> bool:
        """Its run ended well, and each planned cell with an outcome."""
        return self.state == "success" and all(row.state != "pending" for row in self.outcomes)


def prepare(example: Example, stack: Stack) -> None:
    """Make the world's tables, and let the scheduler run the example's DAGs."""
    example.world.prepare(_place(example, stack))
    unpause(stack, f"ingest_{example.source}", f"retrain_{example.fleet}")


def unpause(stack: Stack, *dag_ids: str) -> None:
    """Let the scheduler run DAGs, as soon as it has read them."""
    for dag_id in dag_ids:
        stack.api.wait_for_dag(dag_id)
        stack.api.unpause(dag_id)


def next_steps(example: Example, stack: Stack, every: str | None = None, start: datetime | None = None) -> Iterator[datetime]:
    """The moments the replay has not reached yet."""
    reached = example.world.position(_place(example, stack))
    return (step for step in example.world.steps(start, every or example.every) if reached is None or step > reached)


def paced(steps: Iterator[datetime], pace: float, wait: Callable[[float], None]) -> Iterator[datetime]:
    """The steps, each no sooner than ``pace`` seconds per hour of its own after the one before; ``wait`` takes seconds."""
    before, begun = next(steps, None), time.monotonic()
    while before is not None:
        yield before
        after = next(steps, None)
        if after is not None:
            wait(max(0.0, begun + pace * ((after - before) / HOUR) - time.monotonic()))
        before, begun = after, time.monotonic()


def cycle(example: Example, stack: Stack, until: datetime, console: Console) -> Cycle | None:
    """Move the world up to a moment, ingest, and wait for the retraining that this wakes; None when nothing was written.

    Raises EmbeddedError when ingest fails or no retraining wakes up.
    """
    rows = example.world.advance(_place(example, stack), until, stack.paths.state / "cache")
    committed = time.time()
    if rows == 0:
        return None
    console.print(f"[bold]{until:%Y-%m-%d %H:%M}[/bold]: {example.source} has {rows:,} new rows")
    time.sleep(load_catalog().source(example.source).max_commit_lag.total_seconds())
    ingest(stack, example.source, console)
    run_id = await_plan(stack, example.fleet, [example.source])
    return ended(stack, example.fleet, run_id, committed, console)


def ended(stack: Stack, fleet: str, run_id: str, since: float, console: Console) -> Cycle:
    """What a run came to, once it is over; ``since``: from when on its seconds count."""
    state = _await_end(stack, fleet, run_id, console)
    last = next((row.released_at for row in ask(stack, "last_release_of", run_id=run_id) if row.released_at), None)
    return Cycle(
        run_id=run_id,
        state=state,
        outcomes=ask(stack, "outcomes_of", run_id=run_id),
        seconds=(last.timestamp() if last else time.time()) - since,
    )


def summary(made: Cycle, since: str = "the world's commit") -> str:
    """A cycle in one line: outcomes by state, and how long the last release took from when on."""
    counts = Counter(row.state for row in made.outcomes)
    shown = ", ".join(f"[{COLOURS.get(state, 'white')}]{number} {state}[/]" for state, number in counts.most_common())
    return f"{made.run_id}: {made.state}; {shown or 'nothing was due'}; {made.seconds:.0f} s from {since}\n"


def table(specs: FleetSpecs, run_id: str, outcomes: list[Any]) -> Table:
    """A run's cells: by cell where they fit on a screen, else by model."""
    return (_by_cell if len(outcomes) <= LONGEST_TABLE else _by_model)(specs, run_id, outcomes)


def _by_cell(specs: FleetSpecs, run_id: str, outcomes: list[Any]) -> Table:
    """Champion before, challenger, verdict, reason, seconds."""
    made = Table(title=f"{specs.fleet.name}: {run_id}", title_justify="left")
    for name in ("cell", "champion", "challenger", "outcome", "reason"):
        made.add_column(name, overflow="fold")
    made.add_column("seconds", justify="right")
    for row in outcomes:
        champion = f"{row.champion[:8]} #{row.champion_seq}" if row.champion else "none"
        colour = COLOURS.get(row.state, "white")
        seconds = f"{row.seconds:.1f}" if row.seconds is not None else ""
        cells = (f"{row.model}/{row.country}", champion, (row.version or "")[:8], f"[{colour}]{row.state}[/{colour}]")
        made.add_row(*cells, row.reason, seconds)
    return made


def _by_model(specs: FleetSpecs, run_id: str, outcomes: list[Any]) -> Table:
    """How many cells ended how, their seconds, and why the first failed one did."""
    states = [state for state, _ in Counter(row.state for row in outcomes).most_common()]
    made = Table(title=f"{specs.fleet.name}: {run_id}", title_justify="left")
    made.add_column("model")
    for state in states:
        made.add_column(state, justify="right", style=COLOURS.get(state))
    made.add_column("seconds", justify="right")
    made.add_column("first failure", overflow="fold")
    for model in sorted({row.model for row in outcomes}):
        rows = [row for row in outcomes if row.model == model]
        ended = Counter(row.state for row in rows)
        failure = next((f"{row.country}: {row.reason}" for row in rows if row.state == "failed"), "")
        seconds = sum(row.seconds or 0 for row in rows)
        made.add_row(model, *(str(ended[state] or "") for state in states), f"{seconds:.1f}", failure)
    return made


def _place(example: Example, stack: Stack) -> str:
    """Where the example's world writes."""
    return stack.postgres.dsn(example.database) if example.database else stack.paths.landing.as_uri()


def ingest(stack: Stack, source: str, console: Console) -> None:
    """Ingest what is new of a source. Raises EmbeddedError when that fails."""
    dag_id = f"ingest_{source}"
    run_id = stack.api.trigger(dag_id, {})
    state = _until_ended(stack, lambda: stack.api.run_state(dag_id, run_id), RUN_SECONDS)
    if state != "success":
        raise EmbeddedError(f"{dag_id} run {run_id} ended as {state}. Look at its logs in {stack.url}, under Dags > {dag_id}.")
    counts = {row.state: row.number for row in ask(stack, "batches_by_state", source=source)}
    so_far = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    console.print(f"ingested; batches so far: {so_far or 'none'}")


def await_plan(stack: Stack, fleet: str, sources: Sequence[str]) -> str:
    """The id of a run whose plan covers what is accepted of these sources now. Raises EmbeddedError where none comes."""
    accepted = {source: {row.country: row.as_of for row in ask(stack, "as_of", source=source)} for source in sources}
    deadline = time.monotonic() + WAKE_SECONDS
    while time.monotonic() < deadline:
        stack.check()
        newest = next(iter(ask(stack, "newest_run", fleet=fleet)), None)
        if newest and any(accepted.values()) and _covers_all(newest.as_of, accepted):
            return str(newest.id)
        time.sleep(POLL_SECONDS)
    raise EmbeddedError(f"retrain_{fleet} did not wake up within {WAKE_SECONDS} s. Look at {stack.url}, under Dags.")


def _covers_all(seen: dict[str, dict[str, str]], accepted: dict[str, dict[str, datetime]]) -> bool:
    return all(_covers(seen.get(source, {}), countries) for source, countries in accepted.items())


def _covers(seen: dict[str, str], accepted: dict[str, datetime]) -> bool:
    """Whether a plan's data times, in ISO 8601 by country, reach all that is accepted."""
    return all(country in seen and datetime.fromisoformat(seen[country]) >= moment for country, moment in accepted.items())


def _await_end(stack: Stack, fleet: str, run_id: str, console: Console) -> str:
    dag_run = run_id.split("/", 1)[1]
    with console.status("retraining") as status:

        def look() -> str:
            outcomes = ask(stack, "outcomes_of", run_id=run_id)
            done = sum(row.state != "pending" for row in outcomes)
            status.update(f"retraining: {done} of {len(outcomes)} cells")
            return str(stack.api.run_state(f"retrain_{fleet}", dag_run))

        return _until_ended(stack, look, RUN_SECONDS)


def _until_ended(stack: Stack, look: Callable[[], str], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while (state := look()) not in ("success", "failed"):
        stack.check()
        if time.monotonic() > deadline:
            raise EmbeddedError(f"A DAG run is still {state} after {seconds:.0f} s. Look at {stack.url}.")
        time.sleep(POLL_SECONDS)
    return state


def ask(stack: Stack, query: str, **parameters: Any) -> list[Any]:
    """Rows of a named query, asked of Perennial's database."""
    database = connect(stack.postgres.dsn("perennial"))
    try:
        return fetch(database, query, **parameters)
    finally:
        database.close()
