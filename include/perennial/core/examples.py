"""From rows to examples: what a recipe returns is checked before anything is learned from it."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from perennial.core.metrics import Metric
from perennial.errors import ExamplesError

REQUIRED = ("event_time", "label_time", "target")
TARGET = re.compile(r"\btarget\b")
SHOWN = 5


def matured_examples(examples: Callable[..., pd.DataFrame], rows: pd.DataFrame, as_of: datetime, name: str) -> pd.DataFrame:
    """Examples whose event and label are known as of ``as_of``, sorted by event time, indexed uniquely.

    ``rows`` are the latest revisions indexed by the source's key. Raises ExamplesError, naming the model.
    """
    return with_labels(made_examples(examples, rows, as_of, name), as_of)


def made_examples(examples: Callable[..., pd.DataFrame], rows: pd.DataFrame, as_of: datetime, name: str) -> pd.DataFrame:
    """What a recipe makes of the rows, checked: also examples without a label. Raises ExamplesError, naming the model."""
    made = examples(rows, as_of)
    _check(made, name)
    return made


def with_labels(made: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    """The examples with a known label, by event time."""
    known = _is_due(made, as_of) & made["target"].notna()
    matured = made if known.all() else made[known]
    return matured if matured["event_time"].is_monotonic_increasing else matured.sort_values("event_time", kind="stable")


def missing_labels(made: pd.DataFrame, as_of: datetime) -> tuple[int, int]:
    """How many examples have no label though its time has come, and of how many. A missing label is no "no"."""
    due = _is_due(made, as_of)
    return int((due & made["target"].isna()).sum()), int(due.sum())


def check_target(made: pd.DataFrame, metric: Metric, name: str) -> None:
    """Raise ExamplesError unless the known targets are what the metric is about: 0 and 1, or finite numbers."""
    known = made["target"].dropna()
    numbers = _as_numbers(known)
    is_right = None if numbers is None else np.isin(numbers, (0, 1)) if metric.probabilities else np.isfinite(numbers)
    if is_right is None or not is_right.all():
        raise ExamplesError(_strange_target(known if is_right is None else known[~is_right], known, metric, name))


def _as_numbers(known: pd.Series) -> np.ndarray | None:
    if pd.api.types.infer_dtype(known) in ("string", "bytes", "datetime64", "timedelta64", "date"):
        return None
    try:
        return known.to_numpy(dtype=float)
    except (TypeError, ValueError):
        return None


def _strange_target(strange: pd.Series, known: pd.Series, metric: Metric, name: str) -> str:
    shown = known if metric.probabilities else strange
    distinct = sorted({f"{value:g}" if isinstance(value, float) else repr(value) for value in shown.unique().tolist()})
    values = ", ".join(distinct[:SHOWN]) + (f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else "")
    if metric.probabilities:
        return (
            f"Model {name}: metric {metric.name} needs a target of 0 and 1; the target holds {values}. "
            'Let examples() compare, such as (rows["grade"] == 2).astype(float), or name a metric of numbers.'
        )
    return (
        f"Model {name}: metric {metric.name} needs a target of finite numbers; {len(strange):,} of {len(known):,} values "
        f"are others, such as {values}. Mend target in examples(), or leave these rows out."
    )


def _is_due(made: pd.DataFrame, as_of: datetime) -> "pd.Series[bool]":
    is_due: pd.Series[bool] = (made["label_time"] <= as_of) & (made["event_time"] <= as_of)
    return is_due


def checked_features(features: Callable[..., Any], examples: pd.DataFrame, name: str) -> pd.DataFrame:
    """Features of the examples, row by row under the same index. Raises ExamplesError.

    A recipe gets a copy without the target, which it will not have when it predicts. What it writes there stays there.
    """
    try:
        made = features(examples.drop(columns="target"))  # pandas copies a column once it is written to
    except (KeyError, AttributeError) as error:
        if not TARGET.search(str(error)):
            raise
        raise ExamplesError(
            f"Model {name}: features() asks for the target, which it does not get: it is unknown when predicting. Leave it out."
        ) from error
    if not isinstance(made, pd.DataFrame):
        raise ExamplesError(f"Model {name}: features() returned {type(made).__name__}. Return a DataFrame.")
    if not made.index.equals(examples.index):
        raise ExamplesError(f"Model {name}: features() changed the rows. Return one row per example, in their order.")
    leaks = [column for column in ("target", "label_time") if column in made]
    if leaks:
        raise ExamplesError(f"Model {name}: features() returns {', '.join(leaks)}, unknown when predicting. Drop it.")
    return made


def _check(made: Any, name: str) -> None:
    if not isinstance(made, pd.DataFrame):
        raise ExamplesError(f"Model {name}: examples() returned {type(made).__name__}. Return a DataFrame.")
    missing = [column for column in REQUIRED if column not in made]
    if missing:
        raise ExamplesError(f"Model {name}: examples() lacks {', '.join(missing)}. Add the column.")
    if not made.index.is_unique:
        raise ExamplesError(f"Model {name}: the index of examples() is not unique. Keep the rows' index or set a key.")
    for column in ("event_time", "label_time"):
        if not isinstance(made[column].dtype, pd.DatetimeTZDtype):
            raise ExamplesError(f"Model {name}: {column} is {made[column].dtype}. Make it a UTC timestamp.")
    if bool((made["label_time"] < made["event_time"]).any()):
        raise ExamplesError(f"Model {name}: a label is known before its event. Mend label_time in examples().")
