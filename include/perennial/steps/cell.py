"""One cell of a run: load, fit, compare, refit, and publish the winner."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from perennial.cell import Cell
from perennial.core.artifacts import environment
from perennial.core.comparison import Judgement, judge, one_class, too_few, too_few_to_train
from perennial.core.examples import checked_features
from perennial.core.metrics import METRICS, Floats
from perennial.core.samples import Sample, sample_rows, spread_of
from perennial.core.snapshots import Snapshot
from perennial.core.spans import clusters_of
from perennial.core.training import Fit, check_distance, check_sane, fit, predictions, training_rows
from perennial.errors import ArtifactError, Blocked, CellTimeout, ChampionFails, ExamplesError, StaleVerdict
from perennial.failures import reason_of
from perennial.recipe import RecipeCode, frozen_of
from perennial.shell.database import Connection, Json, fetch, fetch_one, run, transaction
from perennial.shell.keys import read_public_keys
from perennial.shell.registry import champion_of, publish
from perennial.steps.manifests import load_fit, manifest_of
from perennial.steps.material import Job, Material, Outcome, criteria_of, load, version_id
from perennial.steps.pointers import write_pointer
from perennial.steps.publishing import Challenger, commit_artifact
from perennial.steps.rebuild import Carried, carry_over, is_bound_elsewhere
from perennial.steps.rehearsal import rehearse
from perennial.steps.succession import LOST, succeed


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


def released_outcome(database: Connection, cell: Cell, run_id: str) -> Outcome | None:
    """What a run has released for a cell already, before its process died or its store failed; None where nothing."""
    row = fetch_one(database, "release_of_run", model=cell.model, country=cell.country, run_id=run_id)
    if row is None:
        return None
    return Outcome(state="published", reason=row.reason, version=row.version, verdict=row.verdict, release_seq=row.seq)


def train_cell(job: Job, timings: Timings) -> Outcome:
    """Retrain and judge one cell against the champion in force, and publish the challenger when it wins.

    Raises StaleVerdict when the champion moved meanwhile, or a batch that was read, or not, was decided about: the caller
    judges again.
    """
    with timings.part("rebuild"):
        carried = _carried(job, champion_of(job.database, job.cell))
    return carried.outcome or _trained(job, carried, timings)


def _trained(job: Job, carried: Carried, timings: Timings) -> Outcome:
    with timings.part("load"):
        material = load(job, carried.champion, carried.unreadable)
    said = carried.said or carried.unreadable
    if isinstance(material, Outcome):
        return replace(material, reason=f"{said} {material.reason}".strip())
    with timings.part("fit"):
        train = training_rows(material.examples, job.model, material.span.start)
        lacking = _lacking(job, material, train)
        if lacking is not None:
            return Outcome(state="inconclusive", reason=lacking.reason)
        judged = fit(job.model, train)
    with timings.part("compare"):
        judgement = _judge(job, material, judged)
    if job.dry_run:
        return _rehearsed(job, material, judged, judgement)
    version, verdict = _record(job, material, judged, judgement)
    if judgement.decision != "promote" and any(not loss.is_served for loss in job.losses):
        return Outcome(state="failed", reason=judgement.reason, version=version, verdict=verdict)
    if judgement.decision != "promote":
        state = "kept" if judgement.decision == "keep" else "inconclusive"
        return Outcome(state=state, reason=judgement.reason, version=version, verdict=verdict)
    return _publish(job, material, judged, judgement, version, verdict, timings)


def _carried(job: Job, champion: Any | None) -> Carried:
    if champion is None or not is_bound_elsewhere(champion):
        return Carried(champion=champion)
    try:
        return carry_over(job, champion)
    except LOST as error:
        return Carried(champion=champion, unreadable=_without_champion(job, champion, error))


def _rehearsed(job: Job, material: Material, judged: Fit, judgement: Judgement) -> Outcome:
    """How a dry run ends: with the verdict, and failed where the fit could not be published."""
    said = f"Dry run: {judgement.decision}. {judgement.reason}"
    rows = sample_rows(material.examples)
    try:
        rehearse(job.model, judged.estimator, checked_features(job.model.features, rows, job.model.name))
    except ArtifactError as error:
        return Outcome(state="failed", reason=f"{said} It could not be published. {error}")
    return Outcome(state="skipped", reason=said)


def _lacking(job: Job, material: Material, train: pd.DataFrame) -> Judgement | None:
    """What there is too little of to train on; None where there is enough."""
    if len(train) < job.model.gate.min_train_rows:
        return too_few_to_train(len(train), job.model.gate)
    fitted = (train, _served_rows(job, material)) if job.model.refit else (train,)
    metric = METRICS[job.model.metric]
    found = (one_class(rows["target"].to_numpy(dtype=float), metric, "train on") for rows in fitted)
    return next((judgement for judgement in found if judgement is not None), None)


def _judge(job: Job, material: Material, judged: Fit) -> Judgement:
    metric = METRICS[job.model.metric]
    held, champion, without = material.held, None, material.unreadable
    if material.champion is not None and material.champion_code is not None:
        try:
            held, theirs = _champion_predictions(job, material, material.champion, material.champion_code, held)
            champion = _finite(metric.loss(held["target"].to_numpy(dtype=float), theirs), material.champion)
        except LOST as error:
            without = _without_champion(job, material.champion, error)
        except ChampionFails as error:
            without = str(error)
        if held.empty:
            return too_few(0, 0, job.model.gate)
    target = held["target"].to_numpy(dtype=float)
    undecided = one_class(target, metric, "judge on")
    if undecided is not None:
        return undecided
    predicted = predictions(judged.estimator, job.code, held, metric, job.model.name)
    check_sane(predicted, judged, f"{job.cell} judged fit")
    judgement = judge(
        challenger=metric.loss(target, predicted),
        champion=champion,
        baseline=metric.loss(target, np.full(len(target), judged.target_mean)),
        clusters=clusters_of(held, job.model.gate),
        metric=metric,
        gate=job.model.gate,
        seed=job.model.seed,
    )
    return replace(judgement, reason=f"{without} Judged as a first model is. {judgement.reason}") if without else judgement


def _without_champion(job: Job, champion: Any, error: Exception) -> str:
    """Why the challenger is judged alone. Raises StaleVerdict where a former version took over: it is judged against that."""
    if job.dry_run:
        return f"The champion, release {champion.seq}, cannot be read: {error}"
    loss = succeed(job.resources, job.database, job.model, job.cell, champion, error)
    job.losses.append(loss)
    if loss.is_served:
        raise StaleVerdict(loss.what)
    return loss.what


def _finite(losses: Floats, champion: Any) -> Floats:
    """The champion's losses. Raises ChampionFails unless all are finite."""
    unusable = int((~np.isfinite(losses)).sum())
    if unusable:
        what = f"{unusable:,} of its {len(losses):,} predictions are not finite"
        raise ChampionFails(f"The champion, release {champion.seq}, cannot predict: {what}.")
    return losses


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
    manifest = manifest_of(job.cell, champion)
    keys = read_public_keys(job.resources.public_keys)
    frozen = frozen_of(job.model, champion.recipe, champion.parameters)
    estimator = load_fit(job.resources.store, keys, manifest, "judged", job.model.trusted, frozen)
    return held, _predicted(job, estimator, code, theirs, champion)


def _predicted(job: Job, estimator: Any, code: RecipeCode, theirs: pd.DataFrame, champion: Any) -> Floats:
    """What the champion predicts. Raises ChampionFails when it cannot, with its error."""
    try:
        return predictions(estimator, code, theirs, METRICS[job.model.metric], f"{job.cell} champion")
    except CellTimeout:
        raise
    except Exception as error:
        raise ChampionFails(f"The champion, release {champion.seq}, cannot predict: {reason_of(error)}") from error


def _columns(snapshot: Snapshot) -> dict[str, Any]:
    return {**asdict(snapshot), "excluded": list(snapshot.excluded)}


def _record(job: Job, material: Material, judged: Fit, judgement: Judgement) -> tuple[str, int]:
    """Record the challenger and its verdict; recording the same judgement again finds the first one."""
    with transaction(job.database):
        return _write(job, material, judged, judgement)


def _write(job: Job, material: Material, judged: Fit, judgement: Judgement) -> tuple[str, int]:
    recipe, snapshot, span = material.recipe, material.snapshot, material.span
    version = version_id(job, material)
    run(job.database, "add_snapshot", id=snapshot.id, rows=material.rows_read, **_columns(snapshot))
    run(job.database, "add_recipe", hash=recipe.hash, source=recipe.source, parameters=Json(recipe.parameters))
    run(
        job.database, "add_version", id=version, model=job.model.name, country=job.country, snapshot=snapshot.id,
        recipe=recipe.hash, parameters=Json(recipe.parameters), seed=job.model.seed, environment=Json(environment()),
        metrics=Json({**judgement.scores, "train_rows": judged.rows}), judged_until=judged.until,
    )  # fmt: skip
    against = material.champion.seq if material.champion else 0
    identity = {
        "challenger": version, "against_seq": against, "window_start": span.start, "window_end": span.end,
        "as_first": against > 0 and bool(judgement.scores) and "champion" not in judgement.scores,
        "criteria": criteria_of(job.model),
    }  # fmt: skip
    row = fetch_one(
        job.database, "add_verdict", model=job.model.name, country=job.country, as_of=material.as_of, rows=span.rows,
        clusters=span.clusters, decision=judgement.decision, gates=Json([asdict(gate) for gate in judgement.gates]),
        scores=Json(judgement.scores), reason=judgement.reason, **identity,
    ) or fetch_one(job.database, "verdict_of", **identity)  # fmt: skip
    return version, row.id


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
        write_pointer(job.resources, job.database, manifest, seq)
    return Outcome(state="published", reason=judgement.reason, version=version, verdict=verdict, release_seq=seq)


def _refit(job: Job, material: Material, judged: Fit) -> Fit:
    """The served fit: the same recipe up to ``as_of``, checked against the judged fit."""
    if not job.model.refit:
        return judged
    served = fit(job.model, _served_rows(job, material))
    held, metric = material.held, METRICS[job.model.metric]
    both = [predictions(fitted.estimator, job.code, held, metric, job.model.name) for fitted in (served, judged)]
    check_sane(both[0], served, f"{job.cell} served fit")
    check_distance(both[0], both[1], held["target"].to_numpy(dtype=float), job.model.gate, str(job.cell))
    return served


def _served_rows(job: Job, material: Material) -> pd.DataFrame:
    """What the served fit learns from."""
    return training_rows(material.examples, job.model, material.as_of + pd.Timedelta(microseconds=1))


def _challenger(job: Job, material: Material, judged: Fit, served: Fit, version: str) -> Challenger:
    metric = METRICS[job.model.metric]
    rows = sample_rows(material.examples)
    fits = {"judged": judged, "served": served}
    sample = Sample(
        features=checked_features(job.model.features, rows, job.model.name),
        expected={name: predictions(made.estimator, job.code, rows, metric, job.model.name) for name, made in fits.items()},
        spread=spread_of(rows["target"].to_numpy(dtype=float)),
    )
    return Challenger(
        version=version,
        recipe=material.recipe.hash,
        parameters=material.recipe.parameters,
        judged=judged,
        served=served,
        sample=sample,
    )
