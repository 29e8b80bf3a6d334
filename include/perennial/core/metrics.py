"""The metrics a model is judged by: a loss per row, and what its mean says in the metric's unit. Lower is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import SanityError

Floats = NDArray[np.float64]
CLIP = 1e-15


@dataclass(frozen=True, kw_only=True)
class Metric:
    """``loss`` is per row, ``score`` turns a mean loss into the metric; ``probabilities``: predicts a class's share."""

    name: str
    loss: Callable[[Floats, Floats], Floats]
    score: Callable[[Any], Any]
    probabilities: bool = False


def squared_error(target: Floats, predicted: Floats) -> Floats:
    """Squared error of each row."""
    return (target - predicted) ** 2


def absolute_error(target: Floats, predicted: Floats) -> Floats:
    """Absolute error of each row."""
    return np.abs(target - predicted)


def log_loss(target: Floats, predicted: Floats) -> Floats:
    """Negative log-likelihood of each row, probabilities clipped to [1e-15, 1 - 1e-15]."""
    clipped = np.clip(predicted, CLIP, 1 - CLIP)
    return -(target * np.log(clipped) + (1 - target) * np.log(1 - clipped))


def _identity(mean: Any) -> Any:
    return mean


METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="rmse", loss=squared_error, score=np.sqrt),
        Metric(name="mae", loss=absolute_error, score=_identity),
        Metric(name="log_loss", loss=log_loss, score=_identity, probabilities=True),
        Metric(name="brier", loss=squared_error, score=_identity, probabilities=True),
    )
}


def predict(estimator: Any, features: Any, metric: Metric, name: str) -> Floats:
    """Predictions of shape (n_rows,): values, or the probability of class 1.

    One column is taken as its values. Raises SanityError, naming ``name``, for anything else.
    """
    if not metric.probabilities:
        values, shape = _numbers(estimator.predict(features), f"{name}: predict()"), (len(features),)
        if values.shape not in (shape, (*shape, 1)):
            raise SanityError(
                f"{name}: predict() returned an array of shape {values.shape} for {len(features):,} rows. "
                "Let it return one number per row."
            )
        return values.reshape(shape)
    if not hasattr(estimator, "predict_proba"):
        raise SanityError(
            f"{name}: metric {metric.name} needs predict_proba(), which {type(estimator).__name__} "
            "does not have. Use a classifier that has it, or another metric."
        )
    shares = _numbers(estimator.predict_proba(features), f"{name}: predict_proba()")
    if shares.shape != (len(features), 2):
        raise SanityError(
            f"{name}: predict_proba() returned an array of shape {shares.shape} for {len(features):,} "
            "rows. Let it return two columns, the probabilities of class 0 and of class 1."
        )
    return shares[:, 1]


def _numbers(made: Any, what: str) -> Floats:
    """What an estimator returned, as an array, of whatever shape."""
    try:
        return np.asarray(made, dtype=float)
    except (TypeError, ValueError) as error:
        raise SanityError(
            f"{what} returned {type(made).__name__}, which is no array of numbers: {error}. Let it return numbers."
        ) from error
