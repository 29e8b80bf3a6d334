"""Hindsight: what each cell's champions were worth on the rows that came later, against two simpler ways.

*Never*: the first champion's served fit, kept for ever. *Always*: the recipe fitted anew at each cycle on the rows known
then, with the same cut-off, and published unseen. *Served*: the champion in force; *judged*: its judged fit, as if it had
not been refitted.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from perennial.catalog import Catalog
from perennial.cell import Cell
from perennial.core.comparison import one_class
from perennial.core.examples import matured_examples
from perennial.core.hindsight import ALWAYS, JUDGED, NEVER, SERVED, History, Stretch
from perennial.core.metrics import METRICS
from perennial.core.snapshots import latest_revisions, window_of
from perennial.core.training import fit, predictions, training_rows
from perennial.recipe import RecipeCode, code_of, frozen_of
from perennial.resources import Resources
from perennial.shell.database import connect, fetch
from perennial.shell.keys import read_public_keys
from perennial.shell.lake import Reader, row_columns
from perennial.spec import Model, Source
from perennial.steps.manifests import load_fit, manifest_of

FIRST = datetime(1, 1, 2, tzinfo=UTC)
INSTANT = pd.Timedelta(microseconds=1)


@dataclass(frozen=True)
class Ledger:
    """What the registry says of one cell: the cycles of its fleet, its releases, batches and endings."""

    resources: Resources
    model: Model
    source: Source
    country: str
    moments: list[Any]
    releases: list[Any]
    batches: list[Any]
    endings: list[Any]
    examples: dict[Any, pd.DataFrame] = field(default_factory=dict)

    @property
    def cell(self) -> Cell:
        """Which cell it is about."""
        return Cell(self.model.name, self.country)

    @property
    def end(self) -> datetime:
        """The data time of the last cycle."""
        last: datetime = self.moments[-1].as_of
        return last

    def champion_at(self, moment: int) -> Any | None:
        """The last release made by then.

        What no run released, such as a fallback, counts for the cycle it came after.
        """
        runs = {run for cycle in self.moments[: moment + 1] for run in cycle.runs}
        is_last = moment + 1 == len(self.moments)
        until = datetime.max.replace(tzinfo=UTC) if is_last else self.moments[moment + 1].planned_at

        def is_made(release: Any) -> bool:
            return release.run_id in runs if release.run_id else release.released_at < until

        made = [release for release in self.releases if is_made(release)]
        return made[-1] if made else None

    @cached_property
    def reader(self) -> Reader:
        """Reads the cell's rows; its first reading is of all that later ones ask for."""
        columns = row_columns(self.source, self.model.columns)
        reader = Reader(self.resources.store, self.source, columns)
        reader.rows(self.batches, columns, FIRST, self.end)
        return reader

    def known(self, moment: Any) -> pd.DataFrame:
        """The rows a training of that cycle could read."""
        batches = [batch for batch in self.batches if batch.decided_at <= moment.planned_at]
        return self._rows(batches, *window_of(self.model, moment.as_of))

    @cached_property
    def everything(self) -> pd.DataFrame:
        """The latest revisions of all rows up to the last cycle."""
        return self._rows(self.batches, FIRST, self.end)

    def _rows(self, batches: Sequence[Any], start: datetime, end: datetime) -> pd.DataFrame:
        rows = self.reader.rows(batches, row_columns(self.source, self.model.columns), start, end)
        return latest_revisions(rows, self.source)


def hindsight(
    resources: Resources, catalog: Catalog, fleet: str, workers: int, progress: Callable[[str], None]
) -> list[History]:
    """The history of every cell of a fleet, by model and country; ``progress`` hears of each cell that is done."""
    specs = catalog.fleet(fleet)
    database = connect(resources.database)
    try:
        ledgers = [
            Ledger(
                resources, model, source, country,
                fetch(database, "moments_of", fleet=fleet, source=source.name, country=country),
                fetch(database, "releases_of", model=model.name, country=country),
                fetch(database, "accepted_batches", source=source.name, country=country),
                fetch(database, "endings_of", model=model.name, country=country),
            )
            for model in specs.models.values()
            for source in (catalog.source(model.source),)
            for country in model.countries
        ]  # fmt: skip
    finally:
        database.close()
    largest_first = sorted(ledgers, key=lambda ledger: -sum(batch.rows for batch in ledger.batches))
    made = {}
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=_remember, initargs=(largest_first,)
    ) as executor:
        for history in executor.map(_history, range(len(largest_first))):
            made[history.cell] = history
            progress(f"{len(made)} of {len(ledgers)} cells")
    return [made[ledger.cell] for ledger in ledgers]


_ledgers: list[Ledger] = []


def _remember(ledgers: list[Ledger]) -> None:
    """In a worker process: what it inherits by the fork, so that nothing has to be pickled."""
    _ledgers[:] = ledgers


def _history(number: int) -> History:
    return history_of(replace(_ledgers[number], examples={}))  # a copy: what it caches goes with it


def history_of(ledger: Ledger) -> History:
    """One cell's history; without stretches when it never had a champion."""
    facts: dict[str, Any] = {
        "cell": ledger.cell,
        "metric": ledger.model.metric,
        "outcomes": {ending.state: ending.number for ending in ledger.endings},
        "last_reason": ledger.endings[0].reason if ledger.endings else "",
    }
    first = next((index for index in range(len(ledger.moments)) if ledger.champion_at(index)), None)
    if first is None:
        return History(**facts)
    champions = [ledger.champion_at(index) for index in range(first, len(ledger.moments))]
    moves = [index for index, champion in enumerate(champions) if index == 0 or champion != champions[index - 1]]
    released = tuple(ledger.moments[first + index].as_of for index in moves)
    return History(**facts, released=released, stretches=_stretches(ledger, first, champions))


def _stretches(ledger: Ledger, first: int, champions: Sequence[Any]) -> tuple[Stretch, ...]:
    scored = {}
    estimators: dict[tuple[str, str], Any] = {}
    found = []
    always = None
    for index, moment in enumerate(ledger.moments[first:-1]):
        after = ledger.moments[first + index + 1]
        for way, champion, which in (
            (NEVER, champions[0], "served"), (JUDGED, champions[index], "judged"), (SERVED, champions[index], "served")
        ):  # fmt: skip
            scored[way] = (_loaded(ledger, champion, which, estimators), code_of(ledger.model, champion.recipe))
        is_new = champions[index].run_id in moment.runs
        always = scored[SERVED][0] if is_new else (_fitted(ledger, moment) or always)
        scored[ALWAYS] = (always, _todays_code(ledger.model))
        stretch = _score(ledger, moment.as_of, after.as_of, scored)
        found += [stretch] if stretch else []
    return tuple(found)


def _loaded(ledger: Ledger, champion: Any, which: str, loaded: dict[tuple[str, str], Any]) -> Any:
    if (champion.version, which) not in loaded:
        manifest = manifest_of(ledger.cell, champion)
        keys = read_public_keys(ledger.resources.public_keys)
        frozen = frozen_of(ledger.model, champion.recipe)
        estimator = load_fit(ledger.resources.store, keys, manifest, which, ledger.model.trusted, frozen)
        loaded[champion.version, which] = estimator
    return loaded[champion.version, which]


def _fitted(ledger: Ledger, moment: Any) -> Any | None:
    """Today's recipe on what was known at a cycle, or None where that is too little to train on."""
    examples = matured_examples(ledger.model.examples, ledger.known(moment), moment.as_of, ledger.model.name)
    train = training_rows(examples, ledger.model, moment.as_of + INSTANT)
    target, metric = train["target"].to_numpy(dtype=float), METRICS[ledger.model.metric]
    is_little = len(train) < ledger.model.gate.min_train_rows or one_class(target, metric, "train on") is not None
    return None if is_little else fit(ledger.model, train).estimator


def _todays_code(model: Model) -> RecipeCode:
    return RecipeCode(examples=model.examples, features=model.features)


def _score(ledger: Ledger, start: datetime, end: datetime, ways: dict[str, tuple[Any, RecipeCode]]) -> Stretch | None:
    metric, model = METRICS[ledger.model.metric], ledger.model
    losses, rows = {}, 0
    for way, (estimator, code) in ways.items():
        examples = _later(ledger, code)
        inside = examples[(examples["event_time"] > start) & (examples["event_time"] <= end)]
        if inside.empty:
            return None
        predicted = predictions(estimator, code, inside, metric, model.name)
        losses[way], rows = float(np.mean(metric.loss(inside["target"].to_numpy(dtype=float), predicted))), len(inside)
    return Stretch(start=start, end=end, rows=rows, losses=losses)


def _later(ledger: Ledger, code: RecipeCode) -> pd.DataFrame:
    """All examples by a recipe, made once per cell and recipe."""
    if code.examples not in ledger.examples:
        ledger.examples[code.examples] = matured_examples(code.examples, ledger.everything, ledger.end, ledger.model.name)
    return ledger.examples[code.examples]
