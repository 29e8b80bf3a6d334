"""What retraining was worth in a replay: a table by cell, a plot of error over time, and the figures as JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from embedded.components import make_signing_keys
from embedded.running import Stack
from perennial.catalog import load_catalog
from perennial.core.hindsight import ALWAYS, JUDGED, NEVER, SERVED, WAYS, History
from perennial.core.plots import error_over_time
from perennial.errors import SettingsError
from perennial.resources import Resources
from perennial.shell.store import open_store
from perennial.steps.hindsight import hindsight

STATES = ("published", "kept", "inconclusive", "skipped", "failed")


def show_worth(fleet: str, stack: Stack, console: Console) -> None:
    """Print the table, and save ``worth.png`` and ``worth.json`` into the state folder."""
    with console.status("looking back") as status:
        histories = hindsight(
            _resources(stack),
            load_catalog(),
            fleet,
            os.cpu_count() or 1,
            lambda fact: status.update(f"looking back: {fact}"),
        )
    console.print(table(histories))
    plot, figures = stack.paths.state / "worth.png", stack.paths.state / "worth.json"
    plot.write_bytes(error_over_time(histories))
    figures.write_text(json.dumps([_figures(history) for history in histories], indent=1, default=str))
    console.print(f"error over time, releases marked: {plot}\nevery figure: {figures}")


def table(histories: Sequence[History]) -> Table:
    """Per cell: the error of each way on the rows that came later, as a ratio to never retraining, and its outcomes."""
    made = Table(title="Error on the rows that came later", title_justify="left")
    made.add_column("cell")
    for name in ("rows", WAYS[NEVER], "served ÷ never", "judged ÷ never", "always ÷ never", *STATES):
        made.add_column(name, justify="right")
    made.add_column("last reason", overflow="fold")
    for history in histories:
        counts = [str(history.outcomes.get(state, "")) for state in STATES]
        ratios = [_number(history.ratio(way), ".3f") for way in (SERVED, JUDGED, ALWAYS)]
        rows = f"{history.rows:,}" if history.rows else ""
        made.add_row(str(history.cell), rows, _number(history.error(NEVER), ".4f"), *ratios, *counts, history.last_reason)
    return made


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _figures(history: History) -> dict[str, Any]:
    ratios = {f"{way}_error": history.error(way) for way in WAYS} | {f"{way}_ratio": history.ratio(way) for way in WAYS}
    return {**asdict(history), "cell": str(history.cell), **ratios}


def no_source(name: str) -> str:
    """A look back reads the lake alone."""
    raise SettingsError(f"Nothing is read from connection {name} here.")


def _resources(stack: Stack) -> Resources:
    private, public = make_signing_keys(stack.paths)
    return Resources(
        database=stack.postgres.dsn("perennial"),
        store=open_store(stack.paths.store.as_uri()),
        signing_key=private,
        public_keys=public,
        source_dsn=no_source,
    )
