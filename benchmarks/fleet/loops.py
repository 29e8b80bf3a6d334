"""The loops without Airflow: joblib over cells in two processes.

**bare** calls the product's own functions for each cell, on a champion that it is told: no registry, no lock, no verifying
process. **naive** is the script one would write first.

python -m fleet.loops bare|naive FACTS LAKE KEYS CHAMPIONS TARGET CELLS   (the runner calls it, in a process of its own)
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from fleet.world import DAYS, FEATURES, SPAN_DAYS, START, WINDOW_DAYS
from perennial.catalog import Catalog, load_catalog
from perennial.cell import Cell
from perennial.core.comparison import judge
from perennial.core.examples import checked_features, matured_examples
from perennial.core.metrics import METRICS
from perennial.core.samples import Sample, sample_rows, spread_of
from perennial.core.snapshots import latest_revisions, window_of
from perennial.core.spans import clusters_of, comparison_span
from perennial.core.training import check_distance, check_sane, fit, predictions, training_rows
from perennial.recipe import RecipeCode, recipe_of
from perennial.resources import Resources
from perennial.shell.keys import read_public_keys
from perennial.shell.lake import Reader, row_columns
from perennial.shell.registry import Deployment
from perennial.shell.store import open_store
from perennial.steps.manifests import ManifestRef, load_fit
from perennial.steps.pointers import put_pointer
from perennial.steps.publishing import Challenger, store_artifact

WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a loop reads and writes."""

    facts: Path
    store: Path
    keys: Path
    champions: Path
    target: Path
    refit: bool


@dataclass(kw_only=True)
class Record:
    """What one cell took: wall and CPU seconds by part, when it ended, and in which process."""

    cell: str
    promoted: bool = False
    started: float = field(default_factory=time.time)
    ended: float = 0.0
    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)
    imported_mb: float = 0.0
    peak_mb: float = 0.0
    frame_mb: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the seconds inside to a part."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu


def manifest_of(champion: dict[str, Any]) -> ManifestRef:
    """Where a champion's manifest lies."""
    cell = Cell(champion["model"], champion["country"])
    return ManifestRef(cell=cell, version=champion["version"], key=champion["artifact_key"], sha256=champion["sha256"])


@cache
def _catalog() -> Catalog:
    return load_catalog()


@cache
def _reader(store: Path) -> Reader:
    """As the product's worker has it: one for all models of the source."""
    catalog = _catalog()
    source, models = catalog.source("readings"), catalog.fleet("bench").models.values()
    columns = set().union(*(row_columns(source, model.columns) for model in models))
    return Reader(open_store(store.as_uri()), source, columns)


@cache
def _facts(file: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(file.read_text())
    return facts


@cache
def _imported_mb() -> float:
    """The peak so far of this process, asked before its first cell."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare_cell(cell: Cell, place: Place) -> Record:
    """One cell as the product trains it, less what only the product does."""
    record = Record(cell=str(cell), imported_mb=_imported_mb())
    with record.part("prepare"):
        facts, catalog = _facts(place.facts), _catalog()
        model, source = catalog.fleet("bench").models[cell.model], catalog.source("readings")
        champion, as_of = facts["champions"][f"{cell.model}/{cell.country}"], datetime.fromisoformat(facts["as_of"])
        resources = Resources(
            database="", store=open_store(place.store.as_uri()), signing_key=place.keys / "signing.pem",
            public_keys=place.keys / "public.pem", source_dsn=str,
        )  # fmt: skip
        code, metric = RecipeCode(examples=model.examples, features=model.features), METRICS[model.metric]
        recipe = recipe_of(model).hash
    with record.part("load"):
        batches = [SimpleNamespace(**row) for row in facts["batches"][cell.country]]
        columns = row_columns(source, model.columns)
        rows = latest_revisions(_reader(place.store).rows(batches, columns, *window_of(model, as_of)), source)
        record.frame_mb = float(rows.memory_usage(deep=True).sum()) / 2**20
        examples = matured_examples(model.examples, rows, as_of, model.name)
        judged_until = datetime.fromisoformat(champion["judged_until"])
        span = comparison_span(examples, model.gate, model.holdout, judged_until)
        held = examples[span.contains(examples["event_time"])]  # type: ignore[union-attr]
    with record.part("fit"):
        judged = fit(model, training_rows(examples, model, span.start))  # type: ignore[union-attr]
    with record.part("champion"):
        keys = read_public_keys(resources.public_keys)
        estimator = load_fit(resources.store, keys, manifest_of(champion), "judged", model.trusted)
    with record.part("predict"):
        theirs = predictions(estimator, code, held, metric, model.name)
        ours = predictions(judged.estimator, code, held, metric, model.name)
    with record.part("judge"):
        check_sane(ours, judged, str(cell))
        target = held["target"].to_numpy(dtype=float)
        judgement = judge(
            challenger=metric.loss(target, ours), champion=metric.loss(target, theirs),
            baseline=metric.loss(target, np.full(len(target), judged.target_mean)),
            clusters=clusters_of(held, model.gate), metric=metric, gate=model.gate, seed=model.seed,
        )  # fmt: skip
    record.promoted = judgement.decision == "promote"
    if record.promoted:
        served = judged
        if place.refit:
            with record.part("refit"):
                served = fit(model, training_rows(examples, model, as_of + pd.Timedelta(microseconds=1)))
            with record.part("predict"):
                both = [predictions(made.estimator, code, held, metric, model.name) for made in (served, judged)]
            check_sane(both[0], served, str(cell))
            check_distance(both[0], both[1], target, model.gate, str(cell))
        with record.part("store"):
            rows = sample_rows(examples)
            fits = {"judged": judged, "served": served}
            expected = {name: predictions(made.estimator, code, rows, metric, model.name) for name, made in fits.items()}
            challenger = Challenger(
                version=f"{champion['version'][:32]}{os.urandom(16).hex()}",
                recipe=recipe,
                parameters={},
                judged=judged,
                served=served,
                sample=Sample(
                    features=checked_features(model.features, rows, model.name),
                    expected=expected,
                    spread=spread_of(rows["target"].to_numpy(dtype=float)),
                ),
            )
            manifest, _ = store_artifact(resources, model, cell, challenger, deployment="bench")
            put_pointer(resources, Deployment(id="bench", generation=1), manifest, champion["seq"] + 1)
    return _ended(record)


def naive_cell(cell: Cell, place: Place) -> Record:
    """One cell of a script: read, fit, compare two numbers, dump the better model."""
    record = Record(cell=str(cell), imported_mb=_imported_mb())
    with record.part("load"):
        files = [place.store / row["object_key"] for row in _facts(place.facts)["batches"][cell.country]]
        columns = ["read_at", *FEATURES, cell.model]
        rows = pd.concat([pd.read_parquet(file, columns=columns) for file in files]).sort_values("read_at")
        cut = START + pd.Timedelta(days=DAYS - SPAN_DAYS)
        train = rows[(rows["read_at"] < cut) & (rows["read_at"] >= cut - pd.Timedelta(days=WINDOW_DAYS))]
        held = rows[rows["read_at"] >= cut]
    with record.part("fit"):
        challenger = _new().fit(train[list(FEATURES)], train[cell.model])
    with record.part("champion"):
        champion = joblib.load(place.champions / f"{cell.model}/{cell.country}.joblib")
    with record.part("predict"):
        errors = [
            np.sqrt(np.mean((held[cell.model] - made.predict(held[[*FEATURES]])) ** 2)) for made in (challenger, champion)
        ]
    record.promoted = bool(errors[0] < errors[1])
    if record.promoted:
        if place.refit:
            with record.part("refit"):
                newest = rows[rows["read_at"] >= START + pd.Timedelta(days=DAYS - WINDOW_DAYS)]
                challenger = _new().fit(newest[list(FEATURES)], newest[cell.model])
        with record.part("store"):
            file = place.target / f"{cell.model}/{cell.country}.joblib"
            file.parent.mkdir(parents=True, exist_ok=True)
            joblib.dump(challenger, file)
    return _ended(record)


def _new() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(max_iter=100, early_stopping=False, random_state=0)


def _ended(record: Record) -> Record:
    record.ended = time.time()
    record.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return record


LOOPS = {"bare": bare_cell, "naive": naive_cell}


def main() -> None:
    """Run one loop and write what its cells took."""
    loop, facts, store, keys, champions, target = sys.argv[1], *map(Path, sys.argv[2:7])
    place = Place(
        facts=facts, store=store, keys=keys, champions=champions, target=target, refit=os.environ.get("BENCH_REFIT") == "1"
    )
    cells = sorted((Cell(*name.split("/")) for name in _facts(facts)["champions"]), key=lambda cell: cell.country)
    started = time.time()
    records = joblib.Parallel(n_jobs=WORKERS)(joblib.delayed(LOOPS[loop])(cell, place) for cell in cells)
    ended = time.time()
    (target / "records.json").write_text(
        json.dumps({"started": started, "ended": ended, "records": [asdict(record) for record in records]})
    )


if __name__ == "__main__":
    main()
