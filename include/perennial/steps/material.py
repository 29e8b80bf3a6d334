"""What a cell is judged on: its snapshot's rows as examples, the champion in force, the span; or why it is not judged now."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import pandas as pd

from perennial.cell import Cell
from perennial.core.artifacts import environment
from perennial.core.comparison import rows_in_reach, too_few
from perennial.core.examples import check_target, made_examples, matured_examples, missing_labels, with_labels
from perennial.core.messages import Loss
from perennial.core.metrics import METRICS
from perennial.core.snapshots import Snapshot, also_known, latest_revisions, window_of
from perennial.core.spans import Span, comparison_span, unseen_rows
from perennial.errors import CellTimeout, ChampionFails, StoreError
from perennial.failures import text_of
from perennial.recipe import Recipe, RecipeCode, code_of, recipe_of
from perennial.resources import Resources
from perennial.shell.database import Connection, fetch, fetch_one, moment
from perennial.shell.lake import Reader, row_columns
from perennial.shell.registry import is_lost, reading_differently
from perennial.spec import Model, Source
from perennial.steps.verifier import Verifier

logger = logging.getLogger(__name__)

LOST_AND_NOTHING_NEW = (
    "The champion cannot be read, readers are without a model, and what is there to train on would "
    "make this very version "
    "again. New rows make another one; or restore its objects from a backup of the store."
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker hands to a cell: the run's request, the country's data time when it was planned, the outside world, what
    it has read already. ``known_until``: of a backfill, which does without what became known later.
    ``losses``: champions that the cell has found to be unreadable; their owners are told at once.
    """

    run_id: str
    model: Model
    source: Source
    country: str
    as_of: datetime
    known_until: datetime | None
    force: bool
    dry_run: bool
    resources: Resources
    database: Connection
    verifier: Verifier
    reader: Reader
    losses: list[Loss] = field(default_factory=list)

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


@dataclass(frozen=True, kw_only=True)
class Material:
    """What one judgement works on: the snapshot's matured examples, the champion, the span.

    ``as_of``: up to which event time the country's rows are known. ``examples_of_champion``: those of the champion's recipe,
    where that is another one. ``unreadable``: why the champion is not compared with.
    """

    snapshot: Snapshot
    as_of: datetime
    rows_read: int
    examples: pd.DataFrame
    examples_of_champion: pd.DataFrame | None
    recipe: Recipe
    champion: Any | None
    champion_code: RecipeCode | None
    span: Span
    unreadable: str = ""

    @property
    def held(self) -> pd.DataFrame:
        """The examples of the comparison span."""
        return self.examples[self.span.contains(self.examples["event_time"])]


def load(job: Job, champion: Any | None, unreadable: str = "") -> Material | Outcome:
    """What the cell is judged on now, or how it ends without being judged.

    ``unreadable``: why the champion cannot be compared with: it is asked anyway, and for no code of it.
    """
    reading = _reading(job)
    if reading is None:
        return Outcome(state="skipped", reason=f"Source {job.source.name} has no accepted rows for {job.country}.")
    job, rows = replace(job, as_of=reading.as_of), reading.rows
    if rows.empty:
        return Outcome(state="skipped", reason=_no_rows(job, reading.snapshot))
    made = made_examples(job.model.examples, rows, job.as_of, job.model.name)
    check_target(made, METRICS[job.model.metric], job.model.name)
    lacking = _lacking_labels(job, made)
    if lacking:
        return Outcome(state="inconclusive", reason=lacking)
    examples = with_labels(made, job.as_of)
    span = _due_span(job, champion, examples, is_asked=bool(unreadable))
    if isinstance(span, Outcome):
        return span
    recipe = recipe_of(job.model)
    code = code_of(job.model, champion.recipe, champion.parameters) if champion and not unreadable else None
    is_other = code is not None and code.examples is not job.model.examples
    material = Material(
        snapshot=reading.snapshot,
        as_of=reading.as_of,
        rows_read=len(rows),
        examples=examples,
        examples_of_champion=_examples_of_champion(job, champion, code, rows) if code and is_other else None,
        recipe=recipe,
        champion=champion,
        champion_code=code,
        span=span,
        unreadable=unreadable,
    )
    if champion is not None and champion.version == version_id(job, material):
        return _this_very_version(job)
    return material


def _examples_of_champion(job: Job, champion: Any, code: RecipeCode, rows: pd.DataFrame) -> pd.DataFrame:
    """What the champion's own recipe makes of the rows. Raises ChampionFails where that fails: it says whose code it is."""
    try:
        return matured_examples(code.examples, rows, job.as_of, job.model.name)
    except CellTimeout:
        raise
    except Exception as error:
        recipe = f"its own recipe {champion.recipe[:16]}, which `make freeze` kept"
        raise ChampionFails(
            f"The champion, release {champion.seq}, cannot be compared: examples() of {recipe}, failed: {text_of(error)}"
        ) from error


def _no_rows(job: Job, snapshot: Snapshot) -> str:
    start, end = (f"{edge:%Y-%m-%d %H:%M}" for edge in (snapshot.window_start, snapshot.window_end))
    return (
        f"Source {job.source.name} has no rows of {job.country} from {start} to {end}, which {job.model.name} reads as of then."
    )


def _this_very_version(job: Job) -> Outcome:
    """How a cell ends whose champion was made of the same inputs."""
    if is_lost(job.database, job.cell):
        return Outcome(state="failed", reason=LOST_AND_NOTHING_NEW)
    return Outcome(state="skipped", reason="Nothing has changed: the champion is this very version.")


def _lacking_labels(job: Job, made: pd.DataFrame) -> str:
    missing, due = missing_labels(made, job.as_of)
    most = job.model.gate.max_missing_labels
    if missing <= most * due:
        return ""
    return (
        f"Labels are missing: {missing:,} of {due:,} examples whose label should be known have none ({missing / due:.0%}), "
        f"max_missing_labels is {most:.0%}. Mend label_time or target in examples(), or the source."
    )


def _due_span(job: Job, champion: Any | None, examples: pd.DataFrame, *, is_asked: bool) -> Span | Outcome:
    """The span to judge on, or why the cell is not asked now."""
    last = fetch_one(job.database, "last_verdict", model=job.model.name, country=job.country)
    asked_anyway = is_asked or _is_asked_anyway(job, champion, last)
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


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The rows of a snapshot, indexed by the source's key, and up to which event time the country's rows are known."""

    snapshot: Snapshot
    rows: pd.DataFrame
    as_of: datetime


def _reading(job: Job) -> Reading | None:
    """What there is to read now, from the batches alone where a compaction of them cannot be read; None before anything is
    accepted."""
    for compacted in (True, False):
        found = _snapshot(job, compacted)
        if found is None:
            return None
        try:
            return _read(job, *found)
        except StoreError as error:
            if not compacted or all(each.batches == 1 for each in found[1]):
                raise
            logger.warning("%s is read from the batches: %s", job.cell, error)
    return None


def _snapshot(job: Job, compacted: bool) -> tuple[Snapshot, list[Any]] | None:
    """What is read, and the objects that hold just that: both as they are at one moment, whatever is decided meanwhile.

    The window ends where the accepted rows do: of what was accepted when the run was planned, some may be retracted by now.
    """
    asked = {"source": job.source.name, "country": job.country}
    with moment(job.database):
        decided = fetch_one(job.database, "last_decided", **asked)
        if decided is None or decided.event_max is None:
            return None
        start, end = window_of(job.model, min(job.as_of, decided.event_max))
        wanted = {**asked, "last_seq": decided.last_seq, "start": start, "end": end}
        objects = fetch(job.database, "objects_of", **wanted) if compacted else fetch(job.database, "batches_of", **wanted)
    snapshot = Snapshot(
        source=job.source.name,
        country=job.country,
        last_seq=decided.last_seq,
        excluded=tuple(decided.excluded),
        window_start=start,
        window_end=end,
        known_until=job.known_until,
    )
    return snapshot, objects


def read_again(job: Job, snapshot: Snapshot) -> Reading:
    """The rows of a snapshot that was read before. Raises StoreError."""
    window = {"start": snapshot.window_start, "end": snapshot.window_end}
    wanted = {"source": snapshot.source, "country": snapshot.country, "last_seq": snapshot.last_seq, **window}
    try:
        return _read(job, snapshot, fetch(job.database, "objects_of", **wanted))
    except StoreError as error:
        logger.warning("%s is read from the batches: %s", job.cell, error)
        return _read(job, snapshot, fetch(job.database, "batches_of", **wanted))


def _read(job: Job, snapshot: Snapshot, objects: list[Any]) -> Reading:
    known_until, end = snapshot.known_until, snapshot.window_end
    rows = _revisions(job, snapshot, objects, known_until)
    if known_until is None:
        return Reading(snapshot=snapshot, rows=rows, as_of=end)
    if _landed_later(job, known_until):
        now = _revisions(job, snapshot, objects, None)
        return Reading(snapshot=snapshot, rows=also_known(rows, now), as_of=end)
    # What had happened by then, but was not known yet, is no more there than the days after it.
    newest = rows[job.source.event_time].max()
    return Reading(snapshot=snapshot, rows=rows, as_of=end if pd.isna(newest) else min(end, newest.to_pydatetime()))


def _revisions(job: Job, snapshot: Snapshot, objects: list[Any], known_until: datetime | None) -> pd.DataFrame:
    columns, window = row_columns(job.source, job.model.columns), (snapshot.window_start, snapshot.window_end)
    return latest_revisions(job.reader.rows(objects, columns, *window, known_until=known_until), job.source)


def _landed_later(job: Job, known_until: datetime) -> bool:
    """Whether the country landed first after that time, so that nobody has recorded what was known then."""
    first = fetch_one(job.database, "first_landing", source=job.source.name, country=job.country)
    return bool(first.upper > known_until)


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


def version_id(job: Job, material: Material) -> str:
    """The hash of all that a version is made of: the same inputs are the same version."""
    return version_of(
        job.cell,
        snapshot=material.snapshot.id,
        recipe=material.recipe.hash,
        metric=job.model.metric,
        seed=job.model.seed,
        start=material.span.start,
        as_of=material.as_of,
        refit=job.model.refit,
    )


def version_of(
    cell: Cell,
    *,
    snapshot: str,
    recipe: str,
    metric: str,
    seed: int,
    start: datetime,
    as_of: datetime,
    refit: bool,
) -> str:
    """The id of what is made of these inputs in this environment."""
    inputs = [*cell, snapshot, recipe, metric, seed, start.isoformat(), as_of.isoformat(), refit, environment()]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def criteria_of(model: Model) -> str:
    """The hash of what a challenger is judged by, gate and metric: another gate is another question."""
    gate = {name: value if isinstance(value, str) else float(value) for name, value in asdict(model.gate).items()}
    return hashlib.sha256(json.dumps([model.metric, gate], sort_keys=True).encode()).hexdigest()
