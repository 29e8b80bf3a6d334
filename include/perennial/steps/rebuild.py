"""Rebuild: how a champion gets from the scikit-learn that fitted it to the one that is installed here.

scikit-learn promises nothing about what another version of it has fitted: it may load or not, and
predict the same or not. So each champion is tried, in a process of its own: where both its fits
predict its stored sample here, its manifest is signed again with this version's name, and readers of
both versions go on with it. Else its own recipe is fitted again on its own rows, and what comes out,
if it predicts the sample within a tolerance, is released as a rebuild. Readers who have the other
version keep the release before.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import sklearn

from perennial.core.artifacts import also_read_by_this, environment, trusted_of
from perennial.core.examples import made_examples, with_labels
from perennial.core.messages import Loss
from perennial.core.metrics import METRICS, Floats, predict
from perennial.core.samples import REBUILT_ALIKE, Sample, distance, is_read_alike
from perennial.core.snapshots import Snapshot
from perennial.core.training import Fit, fit, training_rows
from perennial.errors import ArtifactAltered, ArtifactError, CellTimeout, NotRebuilt, ObjectMissing, StaleVerdict
from perennial.failures import reason_of
from perennial.recipe import Frozen, frozen_of, model_of
from perennial.shell.database import Json, fetch_one, run
from perennial.shell.keys import read_public_keys
from perennial.shell.registry import (
    SHOWN_TO_BE_READ,
    bound_elsewhere,
    champion_of,
    refuse_rebuild,
    release_rebuild,
)
from perennial.spec import Model
from perennial.steps.manifests import ManifestRef, check_whole, manifest_of, read_sample, signed_manifest
from perennial.steps.material import Job, Outcome, Reading, read_again, version_of
from perennial.steps.pointers import write_pointer
from perennial.steps.publishing import Challenger, commit_artifact, put_in_force, put_manifest

logger = logging.getLogger(__name__)

ALONE = "Its challenger is judged as a first model is."


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What came of a champion that another scikit-learn has fitted.

    ``outcome``: how the cell ends, where it was rebuilt. ``said``: that it is read here, too.
    ``unreadable``: why it is neither, and the challenger is judged alone.
    """

    champion: Any | None
    outcome: Outcome | None = None
    said: str = ""
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True)
class Former:
    """The champion of another scikit-learn: its release, its signed manifest, and the spec with its own recipe and metric."""

    champion: Any
    manifest: ManifestRef
    payload: dict[str, Any]
    model: Model

    @property
    def what(self) -> str:
        """Which release it is, and what fitted it."""
        return f"Release {self.champion.seq} was fitted by scikit-learn {self.champion.fitted_by}"


def is_bound_elsewhere(champion: Any) -> bool:
    """Whether another scikit-learn has fitted a champion, and it is not shown to be read by the one here."""
    return champion.fitted_by not in (None, sklearn.__version__) and sklearn.__version__ not in champion.read_by


def carry_over(job: Job, champion: Any) -> Carried:
    """Make a champion of another scikit-learn one of the version that is installed here, if that can be done as it was.

    Raises ObjectMissing or ArtifactAltered for one that is lost, RecipeMissing without its recipe's
    code, and StaleVerdict when it has moved meanwhile.
    """
    if job.dry_run:
        what = f"Release {champion.seq} was fitted by scikit-learn {champion.fitted_by}, and no run has carried it over yet."
        return Carried(champion=champion, unreadable=what)
    refusal = _refusal(job)
    if refusal and not job.force:
        return Carried(champion=champion, unreadable=refusal)
    former = _former(job, champion)
    try:
        sample = _sample(job, former)
        difference = _difference(job, former, sample)
        if difference:
            return Carried(champion=champion, outcome=_rebuild(job, former, sample, difference))
    except NotRebuilt as error:
        return Carried(champion=champion, unreadable=_refused(job, former, str(error)))
    return Carried(champion=_read_from_now_on(job, former), said=f"{former.what} and reads the same by {sklearn.__version__}.")


def _refusal(job: Job) -> str:
    """Why the champion is not rebuilt for this scikit-learn, where that is on record."""
    found = bound_elsewhere(job.database, [job.cell], sklearn.__version__).get(job.cell)
    return (found.refusal or "") if found else ""


def _former(job: Job, champion: Any) -> Former:
    store, keys = job.resources.store, read_public_keys(job.resources.public_keys)
    manifest = manifest_of(job.cell, champion)
    check_whole(store, keys, manifest)
    payload = signed_manifest(store, keys, manifest)
    model = replace(model_of(job.model, champion.recipe, champion.parameters), metric=payload["metric"])
    return Former(champion=champion, manifest=manifest, payload=payload, model=model)


def _sample(job: Job, former: Former) -> Sample:
    try:
        sample = read_sample(job.resources.store, former.payload, job.cell)
    except (ObjectMissing, ArtifactAltered) as error:
        raise NotRebuilt(f"its stored sample cannot be read: {error}") from error
    if sample is None:
        raise NotRebuilt("no sample of its predictions is stored with it, to compare others with.")
    return sample


def _difference(job: Job, former: Former, sample: Sample) -> str:
    """What keeps the champion from being read here as it stands; empty where it predicts its sample."""
    here = sklearn.__version__
    try:
        predicted = _predicted(job, former, former.manifest, sample)
    except ArtifactError as error:
        logger.info("%s: %s, and cannot be read by %s: %s", job.cell, former.what, here, error)
        return f"cannot be read by {here}"
    return "" if is_read_alike(sample, predicted) else f"predicts its stored sample otherwise by {here}"


def _predicted(job: Job, former: Former, manifest: ManifestRef, sample: Sample) -> dict[str, Floats]:
    frozen = frozen_of(job.model, former.champion.recipe, former.champion.parameters)
    return job.verifier.predictions(manifest, job.model.trusted, former.model.metric, sample.features, frozen)


def _read_from_now_on(job: Job, former: Former) -> Any:
    """Sign the champion's manifest as one that is read by this scikit-learn, too; the champion with it."""
    manifest, size = put_manifest(job.resources, also_read_by_this(former.payload))
    is_added = put_in_force(
        job.database,
        manifest,
        size,
        follows=former.manifest.sha256,
        kind=SHOWN_TO_BE_READ,
        read_by=sklearn.__version__,
    )
    if not is_added:
        raise StaleVerdict(f"The manifest of {job.cell} was signed again meanwhile.")
    write_pointer(job.resources, job.database, manifest, former.champion.seq)
    logger.info("%s: %s and reads the same by %s.", job.cell, former.what, sklearn.__version__)
    return champion_of(job.database, job.cell)


def _rebuild(job: Job, former: Former, sample: Sample, difference: str) -> Outcome:
    """Release the champion as this scikit-learn fits it. Raises NotRebuilt where that is not what it was."""
    version, manifest, apart = _rebuilt(job, former, sample)
    reason = (
        f"Rebuilt for scikit-learn {sklearn.__version__}. {former.what} and {difference}. The same recipe, fitted again on "
        f"the same rows, predicts {len(sample.features)} stored rows within {apart:.3f} standard deviations of the target; "
        f"{REBUILT_ALIKE} are allowed. Readers with {former.champion.fitted_by} keep release {former.champion.seq}."
    )
    seq = release_rebuild(
        job.database,
        job.cell,
        against_seq=former.champion.seq,
        former=former.champion.version,
        rebuilt=version,
        reason=reason,
        run_id=job.run_id,
    )
    write_pointer(job.resources, job.database, manifest, seq)
    return Outcome(state="published", reason=reason, version=version, release_seq=seq)


def _rebuilt(job: Job, former: Former, sample: Sample) -> tuple[str, ManifestRef, float]:
    """The champion's version by this scikit-learn, where its artifact lies, and how far it predicts from the sample.

    One that is on record, as after a way back to this scikit-learn, is taken as it is.
    """
    inputs = fetch_one(job.database, "inputs_of", id=former.champion.version)
    reading = _rows(job, inputs)
    version = _version(job, former, inputs, reading)
    recorded = fetch_one(job.database, "artifact_of", id=version)
    if recorded is not None:
        manifest = manifest_of(job.cell, recorded)
        return version, manifest, _checked(sample, _predicted(job, former, manifest, sample))
    fits, predicted = _fitted_again(job, former, inputs, reading, sample)
    apart = _checked(sample, predicted)
    _record(job, former, inputs, version, fits["judged"])
    frozen = frozen_of(job.model, former.champion.recipe, former.champion.parameters)
    challenger = Challenger(
        version=version,
        recipe=former.champion.recipe,
        parameters=former.champion.parameters,
        judged=fits["judged"],
        served=fits["served"],
        sample=replace(sample, expected=predicted),
        frozen=frozen,
    )
    spec = replace(job.model, metric=former.model.metric, trusted=_reviewed(job, former, frozen))
    manifest = commit_artifact(job.resources, job.database, job.verifier, spec, job.cell, challenger)
    return version, manifest, apart


def _reviewed(job: Job, former: Former, frozen: Frozen | None) -> tuple[str, ...]:
    """The types that the spec trusts or the champion's manifest does, also by their names in frozen code."""
    names = (*job.model.trusted, *trusted_of(former.payload))
    return tuple(dict.fromkeys((*names, *map(frozen.renamed, names)))) if frozen else names


def _rows(job: Job, inputs: Any) -> Reading:
    """The rows of the champion's own snapshot. Raises NotRebuilt where they are not, or no longer, what is read."""
    if not inputs.is_read_alike:
        raise NotRebuilt(
            "a batch that it was trained on, or had to do without, was decided about since: what is kept aside is not read."
        )
    if inputs.source != job.source.name:
        raise NotRebuilt(f"it was trained on source {inputs.source}, which its spec no longer names.")
    snapshot = Snapshot(
        source=inputs.source,
        country=inputs.country,
        last_seq=inputs.last_seq,
        excluded=tuple(inputs.excluded),
        window_start=inputs.window_start,
        window_end=inputs.window_end,
        known_until=inputs.known_until,
    )
    try:
        return read_again(job, snapshot)
    except ObjectMissing as error:
        raise NotRebuilt(f"a batch that it was trained on cannot be read: {error}") from error


def _version(job: Job, former: Former, inputs: Any, reading: Reading) -> str:
    return version_of(
        job.cell,
        snapshot=reading.snapshot.id,
        recipe=former.champion.recipe,
        metric=former.model.metric,
        seed=inputs.seed,
        start=inputs.span_start,
        as_of=reading.as_of,
        refit=_is_refitted(former),
    )


def _is_refitted(former: Former) -> bool:
    files = former.payload["files"]
    return bool(files["judged"]["key"] != files["served"]["key"])


def _fitted_again(
    job: Job, former: Former, inputs: Any, reading: Reading, sample: Sample
) -> tuple[dict[str, Fit], dict[str, Floats]]:
    """Both fits by name, of the same recipe on the same rows, and what they predict for the sample.

    Raises NotRebuilt where they cannot be made here, or the rows are others.
    """
    model = replace(former.model, seed=inputs.seed)
    try:
        fits = _fits(model, inputs, reading, is_refitted=_is_refitted(former))
        metric = METRICS[model.metric]
        return fits, {which: predict(made.estimator, sample.features, metric, model.name) for which, made in fits.items()}
    except (CellTimeout, NotRebuilt):
        raise
    except Exception as error:
        raise NotRebuilt(f"its recipe cannot be fitted again here: {reason_of(error)}.") from error


def _fits(model: Model, inputs: Any, reading: Reading, *, is_refitted: bool) -> dict[str, Fit]:
    made = made_examples(model.examples, reading.rows, reading.as_of, model.name)
    examples = with_labels(made, reading.as_of)
    judged = _fit(model, training_rows(examples, model, inputs.span_start), inputs.train_rows, inputs.judged_until)
    if not is_refitted:
        return {"judged": judged, "served": judged}
    rows = training_rows(examples, model, reading.as_of + pd.Timedelta(microseconds=1))
    return {"judged": judged, "served": _fit(model, rows, len(rows), inputs.served_until)}


def _fit(model: Model, rows: pd.DataFrame, number: int, until: Any) -> Fit:
    learned = rows["label_time"].max() if len(rows) else None
    if (len(rows), learned) != (number, until):
        raise NotRebuilt(
            f"it has learned from {number:,} rows up to {until:%Y-%m-%d %H:%M}, and its recipe would now learn from "
            f"{len(rows):,}: window, lookback or holdout were edited since, or the rows read otherwise."
        )
    return fit(model, rows)


def _checked(sample: Sample, predicted: Mapping[str, Floats]) -> float:
    """How far predictions lie from the sample's. Raises NotRebuilt beyond what is allowed."""
    apart = distance(sample, predicted)
    if not apart <= REBUILT_ALIKE:
        raise NotRebuilt(
            f"fitted again on its own rows, it predicts its stored sample otherwise: {apart:.2f} standard deviations of the "
            f"target apart, {REBUILT_ALIKE} are allowed."
        )
    return apart


def _record(job: Job, former: Former, inputs: Any, version: str, judged: Fit) -> None:
    run(
        job.database,
        "add_rebuilt_version",
        id=version,
        former=former.champion.version,
        environment=Json(environment()),
        metrics=Json(
            {
                "train_rows": judged.rows,
                "span_start": inputs.span_start.isoformat(),
                "rebuilt_from": former.champion.version,
            }
        ),
    )


def _refused(job: Job, former: Former, why: str) -> str:
    """Note that a champion is not rebuilt, and why: until it is forced, it is not tried again. Its owner is told."""
    champion, here = former.champion, sklearn.__version__
    what = (
        f"{former.what}, cannot be read by {here} and is not rebuilt: {why} Readers with {champion.fitted_by} keep it, "
        f"those with {here} have no model until a challenger wins."
    )
    refuse_rebuild(job.database, job.cell, champion.seq, here, what)
    logger.error("%s: %s", job.cell, what)
    job.losses.append(Loss(cell=job.cell, what=what, is_served=False, is_there=True))
    return what
