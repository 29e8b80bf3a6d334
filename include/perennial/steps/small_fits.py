"""Small fits: each recipe fitted once on made-up rows, stored and read back, before any run."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from perennial.core.examples import checked_features, matured_examples
from perennial.core.made_up import made_up_features, made_up_rows, made_up_target
from perennial.core.metrics import METRICS
from perennial.core.snapshots import latest_revisions
from perennial.core.training import fit
from perennial.errors import ArtifactError
from perennial.failures import reason_of
from perennial.shell.child import Ended, Line, in_child
from perennial.shell.frames import typed_frame
from perennial.shell.lake import row_columns, schema_of
from perennial.shell.own_world import own_world
from perennial.spec import REMOVED, Model, Source
from perennial.steps.rehearsal import rehearse

ROWS = 400
MOST, FEWEST = 200, 20  # examples to fit on; below that, features are made up instead
UNTIL = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECONDS = 30.0
ORPHANED = "Whoever asked for small fits has gone."


@dataclass(frozen=True, kw_only=True)
class SmallFit:
    """Why a small fit could not be published, or why there was none; both empty where it could."""

    refusal: str = ""
    unseen: str = ""


def small_fits(asked: Sequence[tuple[Model, Source]]) -> list[SmallFit]:
    """Fit, store and read back each recipe, apart from this process: one may end or hold up its own."""
    found: list[SmallFit] = []
    while len(found) < len(asked):
        first = len(found)

        def work(line: Line, first: int = first) -> None:
            for model, source in asked[first:]:
                line.limit(SECONDS)
                made = small_fit(model, source)
                line.tell((made.refusal, made.unseen))

        ended = in_child(work, orphaned=ORPHANED, hear=lambda said: found.append(_heard(said)))
        if len(found) < len(asked):
            found.append(SmallFit(unseen=_ended(ended)))
    return found


def _heard(said: tuple[str, str]) -> SmallFit:
    return SmallFit(refusal=said[0], unseen=said[1])


def _ended(ended: Ended) -> str:
    return f"it took more than {SECONDS:.0f} s" if ended.is_overdue else str(ended)


def small_fit(model: Model, source: Source) -> SmallFit:
    """Fit, store and read back one recipe; as it is before a fit, where made-up rows make it fail."""
    try:
        with own_world():
            warnings.simplefilter("ignore")  # what is said of made-up rows concerns nobody
            estimator, sample = fitted(model, source)
            rehearse(model, estimator, sample)
    except ArtifactError as error:
        return SmallFit(refusal=str(error))
    except Exception as error:
        return SmallFit(refusal=_refusal_of_unfitted(model), unseen=reason_of(error))
    return SmallFit()


def fitted(model: Model, source: Source) -> tuple[Any, pd.DataFrame]:
    """An estimator fitted on made-up rows, and its features.

    Where the rows make hardly an example, features of the recipe's columns and types are made up.
    """
    made = matured_examples(model.examples, _rows(model, source), UNTIL, model.name).tail(MOST)
    is_class = METRICS[model.metric].probabilities
    if len(made) >= FEWEST:
        target = made_up_target(len(made), is_class) if is_class else made["target"]
        train = made.assign(target=target)
        features = checked_features(model.features, train, model.name)
        return fit(model, train).estimator, features
    features = made_up_features(checked_features(model.features, made, model.name), MOST)
    return model.estimator().fit(features, made_up_target(MOST, is_class)), features


def _refusal_of_unfitted(model: Model) -> str:
    try:
        rehearse(model, model.estimator())
    except ArtifactError as error:
        return str(error)
    return ""


def _rows(model: Model, source: Source) -> pd.DataFrame:
    """Rows as a recipe gets them: in the types of the spec, of the columns that it names."""
    columns = made_up_rows(source, ROWS, UNTIL, model.window + model.lookback, model.countries[0])
    columns[REMOVED] = [False] * ROWS
    arrays = {field.name: pa.array(columns[field.name], field.type) for field in schema_of(source)}
    frame = typed_frame(pa.table(arrays), {column.name: column for column in source.columns})
    needed = row_columns(source, model.columns) | {REMOVED}
    return latest_revisions(frame[[name for name in frame if name in needed]], source)
