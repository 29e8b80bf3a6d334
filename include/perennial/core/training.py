"""Fitting a recipe, and checking that what came out can be used."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from perennial.core.examples import checked_features
from perennial.core.metrics import Floats, Metric, predict
from perennial.errors import SanityError
from perennial.recipe import RecipeCode
from perennial.spec import Gate, Model

RANGE_SLACK = 1.0


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted estimator, ``until``: the latest label-known time among its training rows, and their target's range."""

    estimator: Any
    until: datetime
    rows: int
    target_mean: float
    target_min: float
    target_max: float


def training_rows(examples: pd.DataFrame, model: Model, cut: datetime) -> pd.DataFrame:
    """Examples of the window before ``cut`` whose labels were known before it."""
    inside = ((examples["label_time"] < cut) & (examples["event_time"] >= cut - model.window)).to_numpy()
    number, first = int(inside.sum()), int(inside.argmax()) if len(inside) else 0
    is_one_piece = bool(inside[first : first + number].all())
    return examples.iloc[first : first + number] if is_one_piece else examples[inside]  # a slice copies nothing


def fit(model: Model, train: pd.DataFrame) -> Fit:
    """Fit the model's recipe on examples. ``train`` is not empty."""
    features = checked_features(model.features, train, model.name)
    target = train["target"].to_numpy(dtype=float)
    estimator = model.estimator()
    _seed(estimator, model.seed)
    estimator.fit(features, target)
    return Fit(
        estimator=estimator,
        until=train["label_time"].max().to_pydatetime(),
        rows=len(train),
        target_mean=float(target.mean()),
        target_min=float(target.min()),
        target_max=float(target.max()),
    )


def _seed(estimator: Any, seed: int) -> None:
    unset = [name for name, value in estimator.get_params().items() if name.endswith("random_state") and value is None]
    if unset:
        estimator.set_params(**dict.fromkeys(unset, seed))


def predictions(estimator: Any, code: RecipeCode, examples: pd.DataFrame, metric: Metric, name: str) -> Floats:
    """Predictions for the examples, of shape (n_rows,), through a recipe's own features."""
    return predict(estimator, checked_features(code.features, examples, name), metric, name)


def check_sane(predicted: Floats, fitted: Fit, name: str) -> None:
    """Raise SanityError unless all predictions are finite and within the widened range of the training target."""
    if not np.isfinite(predicted).all():
        raise SanityError(f"{name}: {int((~np.isfinite(predicted)).sum())} of {len(predicted)} predictions are not finite.")
    slack = RANGE_SLACK * (fitted.target_max - fitted.target_min)
    low, high = fitted.target_min - slack, fitted.target_max + slack
    outside = int(((predicted < low) | (predicted > high)).sum())
    if outside:
        raise SanityError(
            f"{name}: {outside} of {len(predicted)} predictions lie outside [{low:.4g}, {high:.4g}], "
            "the training target's range widened by itself on both sides."
        )


def check_distance(served: Floats, judged: Floats, target: Floats, gate: Gate, name: str) -> float:
    """Distance of the two fits' predictions in standard deviations of the target. Raises SanityError beyond the gate's."""
    spread = float(np.std(target)) or 1.0
    distance = float(np.sqrt(np.mean((served - judged) ** 2))) / spread
    if distance > gate.max_refit_distance:
        raise SanityError(
            f"{name}: the refitted model's predictions lie {distance:.2f} standard deviations from the judged fit's; "
            f"{gate.max_refit_distance} are allowed. Look at the newest rows, or set refit=False."
        )
    return distance
