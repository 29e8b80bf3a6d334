"""One cell of a run: load, fit, compare, and publish the winner."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from perennial.cell import Cell
from perennial.core.artifacts import environment
from perennial.core.comparison import Judgement, judge, rows_in_reach, too_few, too_few_to_train
from perennial.core.examples import checked_features, made_examples, matured_examples, missing_labels, with_labels
from perennial.core.metrics import METRICS, Floats
from perennial.core.snapshots import Snapshot, latest_revisions, window_of
from perennial.core.spans import Span, clusters_of, comparison_span, unseen_rows
from perennial.core.training import Fit, check_distance, check_sane, fit, predictions, training_rows
from perennial.errors import Blocked, ExamplesError, StoreError
from perennial.recipe import Recipe, RecipeCode, code_of, recipe_of
from perennial.resources import Resources
from perennial.shell.database import Connection, Json, fetch, fetch_one, run, transaction
from perennial.shell.keys import read_public_keys
from perennial.shell.lake import Reader, row_columns
from perennial.shell.registry import champion_of, publish, reading_differently
from perennial.spec import Model, Source
from perennial.steps.manifests import ManifestRef, load_fit
from perennial.steps.publishing import SAMPLE_ROWS, Challenger, commit_artifact, write_pointer
from perennial.steps.verifier import Verifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker hands to a cell: the run's request and data time, the outside world, what it has read already."""

    run_id: str
    model: Model
    source: Source
    country: str
    as_of: datetime
    force: bool
    dry_run: bool
    resources: Resources
    database: Connection
    verifier: Verifier
    reader: Reader

    @property
    def cell(self) -> Cell:
        """Which cell it is about."""
        return Cell(self.model.name, self.country)

    @property
    def code(self) -> RecipeCode:
        """Today's recipe."""
        return RecipeCode(examples=self.model.examples, features=self.model.features)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a cell ended."""

    state: str
    reason: str
    version: str | None = None
    verdict: int | None = None
    release_seq: int | None = None


@dataclass
class Timings:
    """Seconds by part of the work."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time inside to a part."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 4)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What one judgement works on: the snapshot's matured examples, the champion, the span.

    ``examples_of_champion``: those of the champion's recipe, where that is another one.
    """

    snapshot: Snapshot
    rows_read: int
    examples: pd.DataFrame
    examples_of_champion: pd.DataFrame | None
    recipe: Recipe
    champion: Any | None
    champion_code: RecipeCode | None
    span: Span

    @property
    def held(self) -> pd.DataFrame:
        """The examples of the comparison span."""
        return self.examples[self.span.contains(self.examples["event_time"])]


def released_outcome(database: Connection, cell: Cell, run_id: str) -> Outcome | None:
    """What a run has released for a cell already, before its process died or its store failed; None where nothing."""
    row = fetch_one(database, "release_of_run", model=cell.model, country=cell.country, run_id=run_id)
    if row is None:
        return None
    return Outcome(state="published", reason=row.reason, version=row.version, verdict=row.verdict, release_seq=row.seq)


def train_cell(job: Job, timings: Timings) -> Outcome:
    """Retrain and judge one cell against the champion in force, and publish the challenger when it wins.

    Raises StaleVerdict when the champion moved meanwhile: the caller judges again.
    """
    with timings.part("load"):
        champion = champion_of(job.database, job.cell)
        material = _load(job, champion)
    if isinstance(material, Outcome):
        return material
    with timings.part("fit"):
        train = training_rows(material.examples, job.model, material.span.start)
        if len(train) < job.model.gate.min_train_rows:
            return Outcome(state="inconclusive", reason=too_few_to_train(len(train), job.model.gate).reason)
        judged = fit(job.model, train)
    with timings.part("compare"):
        judgement = _judge(job, material, judged)
    if job.dry_run:
        return Outcome(state="skipped", reason=f"Dry run: {judgement.decision}. {judgement.reason}")
    version, verdict = _record(job, material, judged, judgement)
    if judgement.decision != "promote":
        state = "kept" if judgement.decision == "keep" else "inconclusive"
        return Outcome(state=state, reason=judgement.reason, version=version, verdict=verdict)
    return _publish(job, material, judged, judgement, version, verdict, timings)


def _load(job: Job, champion: Any | None) -> Material | Outcome:
    snapshot, objects = _snapshot(job)
    if snapshot is None:
        return Outcome(state="skipped", reason=f"Source {job.source.name} has no accepted rows for {job.country}.")
    rows = latest_revisions(_read(job, snapshot, objects), job.source)
    made = made_examples(job.model.examples, rows, job.as_of, job.model.name)
    lacking = _lacking_labels(job, made)
    if lacking:
        return Outcome(state="inconclusive", reason=lacking)
    examples = with_labels(made, job.as_of)
    span = _due_span(job, champion, examples)
    if isinstance(span, Outcome):
        return span
    recipe = recipe_of(job.model)
    code = code_of(job.model, champion.recipe) if champion else None
    is_other = champion is not None and champion.recipe != recipe.hash
    material = Material(
        snapshot=snapshot,
        rows_read=len(rows),
        examples=examples,
        examples_of_champion=matured_examples(code.examples, rows, job.as_of, job.model.name) if code and is_other else None,
        recipe=recipe,
        champion=champion,
        champion_code=code,
        span=span,
    )
    if champion is not None and champion.version == _version_id(job, material):
        return Outcome(state="skipped", reason="Nothing has changed: the champion is this very version.")
    return material


def _lacking_labels(job: Job, made: pd.DataFrame) -> str:
    missing, due = missing_labels(made, job.as_of)
    most = job.model.gate.max_missing_labels
    if missing <= most * due:
        return ""
    return (
        f"Labels are missing: {missing:,} of {due:,} examples whose label should be known have none ({missing / due:.0%}), "
        f"max_missing_labels is {most:.0%}. Mend label_time or target in examples(), or the source."
    )


def _due_span(job: Job, champion: Any | None, examples: pd.DataFrame) -> Span | Outcome:
    """The span to judge on, or why the cell is not asked now."""
    last = fetch_one(job.database, "last_verdict", model=job.model.name, country=job.country)
    asked_anyway = _is_asked_anyway(job, champion, last)
    needed = 0 if asked_anyway else _rows_in_reach(job, champion, last)
    after = champion.judged_until if champion else None
    span = comparison_span(examples, job.model.gate, job.model.holdout, after, needed)
    if span is None:
        return Outcome(state="inconclusive", reason="No example has a known label yet.")
    waiting = "" if asked_anyway else _why_not_due(job, last, examples, span, needed)
    if waiting:
        return Outcome(state="skipped", reason=waiting)
    if not span.enough:
        return Outcome(state="inconclusive", reason=too_few(span.rows, span.clusters, job.model.gate).reason)
    return span


def _snapshot(job: Job) -> tuple[Snapshot | None, list[Any]]:
    """What there is to read, and the objects that hold it; none before anything is accepted."""
    start, end = window_of(job.model, job.as_of)
    asked = {"source": job.source.name, "country": job.country}
    decided = fetch_one(job.database, "last_decided", **asked)
    if decided is None or not decided.has_accepted:
        return None, []
    snapshot = Snapshot(
        source=job.source.name,
        country=job.country,
        last_seq=decided.last_seq,
        excluded=tuple(decided.excluded),
        window_start=start,
        window_end=end,
    )
    return snapshot, fetch(job.database, "objects_of", **asked, last_seq=decided.last_seq, start=start, end=end)


def _read(job: Job, snapshot: Snapshot, objects: list[Any]) -> pd.DataFrame:
    """The snapshot's rows; from its batches alone where a compaction of them cannot be read."""
    columns, window = row_columns(job.source, job.model.columns), (snapshot.window_start, snapshot.window_end)
    try:
        return job.reader.rows(objects, columns, *window)
    except StoreError as error:
        if all(each.batches == 1 for each in objects):
            raise
        logger.warning("%s is read from the batches: %s", job.cell, error)
    asked = {"source": job.source.name, "country": job.country, "last_seq": snapshot.last_seq}
    batches = fetch(job.database, "batches_of", **asked, start=window[0], end=window[1])
    return job.reader.rows(batches, columns, *window)


def _columns(snapshot: Snapshot) -> dict[str, Any]:
    return {**asdict(snapshot), "excluded": list(snapshot.excluded)}


def _is_asked_anyway(job: Job, champion: Any | None, last: Any | None) -> bool:
    """Whether the cell is forced, was never asked, reads other batches than it did, or has waited for ``max_age``."""
    if job.force or last is None or job.cell in reading_differently(job.database, [job.cell]):
        return True
    max_age = job.model.cadence.max_age
    return bool(champion and max_age and job.as_of - max(champion.judged_until, last.as_of) > max_age)


def _rows_in_reach(job: Job, champion: Any | None, last: Any) -> float:
    """The rows a promotion needs by the power of the last verdict; 0 where that says nothing about the next one."""
    scores = last.scores
    if last.decision != "inconclusive" or "gain" not in scores or champion is None or champion.seq != last.against_seq:
        return 0
    return rows_in_reach(last.rows, scores["gain"], scores["gain_lower"], scores["gain_upper"], job.model.gate.margin)


def _why_not_due(job: Job, last: Any, examples: pd.DataFrame, span: Span, needed: float) -> str:
    gate, least = job.model.gate, job.model.cadence.min_new_rows
    unseen = unseen_rows(examples["event_time"], span, last.window_end)
    if unseen < least:
        return f"Not due: {unseen} rows since the last verdict, {least - unseen} more are needed."
    if gate.min_rows <= span.rows < needed:
        return (
            f"Not due: a promotion is out of reach. It needs about {needed:,.0f} rows, even if the true gain were "
            f"{last.scores['gain_upper']:+.1%}, the most the last verdict allows; there are {span.rows:,}."
        )
    return ""


def _judge(job: Job, material: Material, judged: Fit) -> Judgement:
    metric = METRICS[job.model.metric]
    held = material.held
    rivals = {}
    if material.champion is not None and material.champion_code is not None:
        held, rivals["champion"] = _champion_predictions(job, material, material.champion, material.champion_code, held)
        if held.empty:
            return too_few(0, 0, job.model.gate)
    target = held["target"].to_numpy(dtype=float)
    predicted = predictions(judged.estimator, job.code, held, metric, job.model.name)
    check_sane(predicted, judged, f"{job.cell} judged fit")
    champion = metric.loss(target, rivals["champion"]) if rivals else None
    return judge(
        challenger=metric.loss(target, predicted),
        champion=champion,
        baseline=metric.loss(target, np.full(len(target), judged.target_mean)),
        clusters=clusters_of(held, job.model.gate),
        metric=metric,
        gate=job.model.gate,
        seed=job.model.seed,
    )


def _champion_predictions(
    job: Job, material: Material, champion: Any, code: RecipeCode, held: pd.DataFrame
) -> tuple[pd.DataFrame, Floats]:
    """Rows both recipes make an example of, and what the champion's judged fit predicts there by its own recipe."""
    theirs, made = held, material.examples_of_champion
    if made is not None:
        theirs = made.loc[made.index.intersection(held.index)]
        held = held.loc[theirs.index]
        if held.empty:
            return held, np.empty(0)
        if not np.allclose(theirs["target"].to_numpy(dtype=float), held["target"].to_numpy(dtype=float)):
            raise ExamplesError(
                f"Model {job.model.name} now has another target than its champion's recipe {champion.recipe[:16]}. "
                "Errors on different targets cannot be compared: give the new target a model of its own."
            )
    manifest = ManifestRef(cell=job.cell, version=champion.version, key=champion.artifact_key, sha256=champion.sha256)
    keys = read_public_keys(job.resources.public_keys)
    estimator = load_fit(job.resources.store, keys, manifest, "judged", job.model.trusted)
    return held, predictions(estimator, code, theirs, METRICS[job.model.metric], f"{job.cell} champion")


def _record(job: Job, material: Material, judged: Fit, judgement: Judgement) -> tuple[str, int]:
    """Record the challenger and its verdict; recording the same judgement again finds the first one."""
    with transaction(job.database):
        return _write(job, material, judged, judgement)


def _write(job: Job, material: Material, judged: Fit, judgement: Judgement) -> tuple[str, int]:
    recipe, snapshot, span = material.recipe, material.snapshot, material.span
    version = _version_id(job, material)
    run(job.database, "add_snapshot", id=snapshot.id, rows=material.rows_read, **_columns(snapshot))
    run(job.database, "add_recipe", hash=recipe.hash, source=recipe.source, parameters=Json(recipe.parameters))
    run(
        job.database, "add_version", id=version, model=job.model.name, country=job.country, snapshot=snapshot.id,
        recipe=recipe.hash, parameters=Json(recipe.parameters), seed=job.model.seed, environment=Json(environment()),
        metrics=Json({**judgement.scores, "train_rows": judged.rows}), judged_until=judged.until,
    )  # fmt: skip
    against = material.champion.seq if material.champion else 0
    identity = {
        "challenger": version, "against_seq": against, "window_start": span.start, "window_end": span.end
    }  # fmt: skip
    row = fetch_one(
        job.database, "add_verdict", model=job.model.name, country=job.country, as_of=job.as_of, rows=span.rows,
        clusters=span.clusters, decision=judgement.decision, gates=Json([asdict(gate) for gate in judgement.gates]),
        scores=Json(judgement.scores), reason=judgement.reason, **identity,
    ) or fetch_one(job.database, "verdict_of", **identity)  # fmt: skip
    return version, row.id


def _version_id(job: Job, material: Material) -> str:
    inputs = [
        *job.cell, material.snapshot.id, material.recipe.hash, job.model.seed, material.span.start.isoformat(),
        job.as_of.isoformat(), job.model.refit, environment(),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _publish(
    job: Job, material: Material, judged: Fit, judgement: Judgement, version: str, verdict: int, timings: Timings
) -> Outcome:
    with timings.part("refit"):
        served = _refit(job, material, judged)
    with timings.part("publish"):
        challenger = _challenger(job, material, judged, served, version)
        manifest = commit_artifact(job.resources, job.database, job.verifier, job.model, job.cell, challenger)
        champion = material.champion
        try:
            seq = publish(
                job.database, job.cell, against_seq=champion.seq if champion else 0,
                champion=champion.version if champion else None, challenger=version, verdict=verdict,
                reason=judgement.reason, run_id=job.run_id,
            )  # fmt: skip
        except Blocked:
            blockers = fetch(job.database, "blockers_of", model=job.model.name, country=job.country)
            reason = "; ".join(f"{blocker.kind} by {blocker.person}: {blocker.reason}" for blocker in blockers)
            return Outcome(state="blocked", reason=f"Promoted, not published. {reason}", version=version, verdict=verdict)
        write_pointer(job.resources, manifest, seq)
    return Outcome(state="published", reason=judgement.reason, version=version, verdict=verdict, release_seq=seq)


def _refit(job: Job, material: Material, judged: Fit) -> Fit:
    """The served fit: the same recipe up to ``as_of``, checked against the judged fit."""
    if not job.model.refit:
        return judged
    until = job.as_of + pd.Timedelta(microseconds=1)
    served = fit(job.model, training_rows(material.examples, job.model, until))
    held, metric = material.held, METRICS[job.model.metric]
    both = [predictions(fitted.estimator, job.code, held, metric, job.model.name) for fitted in (served, judged)]
    check_sane(both[0], served, f"{job.cell} served fit")
    check_distance(both[0], both[1], held["target"].to_numpy(dtype=float), job.model.gate, str(job.cell))
    return served


def _challenger(job: Job, material: Material, judged: Fit, served: Fit, version: str) -> Challenger:
    metric = METRICS[job.model.metric]
    rows = material.examples.tail(SAMPLE_ROWS)
    fits = {"judged": judged, "served": served}
    return Challenger(
        version=version,
        recipe=material.recipe.hash,
        judged=judged,
        served=served,
        sample=checked_features(job.model.features, rows, job.model.name),
        expected={name: predictions(made.estimator, job.code, rows, metric, job.model.name) for name, made in fits.items()},
    )
