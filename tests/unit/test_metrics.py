"""Metrics against scikit-learn's."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.dummy import DummyClassifier, DummyRegressor

from perennial import spec
from perennial.core.metrics import METRICS, predict
from perennial.errors import SanityError

RANDOM = np.random.default_rng(0)
TARGET, PREDICTED = RANDOM.normal(size=(2, 100))
CLASSES, SHARES = (RANDOM.random(100) < 0.3).astype(float), RANDOM.random(100)
REFERENCES = {
    "rmse": (metrics.root_mean_squared_error, TARGET, PREDICTED),
    "mae": (metrics.mean_absolute_error, TARGET, PREDICTED),
    "log_loss": (metrics.log_loss, CLASSES, SHARES),
    "brier": (metrics.brier_score_loss, CLASSES, SHARES),
}


@pytest.mark.parametrize("name", METRICS)
def test_the_mean_loss_scored_is_scikit_learns_metric(name):
    reference, target, predicted = REFERENCES[name]
    metric = METRICS[name]
    losses = metric.loss(target, predicted)
    assert losses.shape == (100,)
    assert metric.score(losses.mean()) == pytest.approx(reference(target, predicted))


def test_specs_may_name_exactly_the_metrics_there_are():
    assert tuple(METRICS) == spec.METRICS


def test_a_sure_and_wrong_prediction_has_a_finite_log_loss():
    loss = METRICS["log_loss"].loss(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert loss == pytest.approx([34.54, 34.54], abs=0.01)


def test_values_are_predicted_for_a_metric_of_values():
    estimator = DummyRegressor().fit(TARGET[:, None], TARGET)
    assert predict(estimator, TARGET[:, None], METRICS["mae"], "weight") == pytest.approx(np.full(100, TARGET.mean()))


def test_the_probability_of_class_1_is_predicted_for_a_metric_of_probabilities():
    estimator = DummyClassifier(strategy="prior").fit(TARGET[:, None], CLASSES)
    assert predict(estimator, TARGET[:, None], METRICS["brier"], "weight") == pytest.approx(np.full(100, CLASSES.mean()))


ROWS = pd.DataFrame({"length": [1.0, 2.0, 3.0]})
VALUES = np.array([4.0, 5.0, 6.0])
PROBABILITIES = np.column_stack([1 - VALUES / 10, VALUES / 10])


def saying(made):
    """An estimator that returns just this."""
    return SimpleNamespace(predict=lambda features: made, predict_proba=lambda features: made)


@pytest.mark.parametrize(
    "made",
    [VALUES, list(VALUES), VALUES[:, None], pd.Series(VALUES, index=[7, 8, 9]), pd.DataFrame({"weight": VALUES})],
    ids=["array", "list", "column", "Series", "DataFrame"],
)
def test_one_number_per_row_is_taken_as_such_in_whatever_it_comes(made):
    predicted = predict(saying(made), ROWS, METRICS["rmse"], "weight")
    assert predicted.shape == (3,)
    assert predicted.tolist() == VALUES.tolist()


@pytest.mark.parametrize("made", [PROBABILITIES, PROBABILITIES.tolist(), pd.DataFrame(PROBABILITIES)])
def test_two_columns_are_the_probabilities_of_both_classes(made):
    assert predict(saying(made), ROWS, METRICS["log_loss"], "late").tolist() == PROBABILITIES[:, 1].tolist()


@pytest.mark.parametrize(
    ("metric", "made", "what"),
    [
        ("rmse", np.ones((3, 2)), "predict() returned an array of shape (3, 2) for 3 rows"),
        ("rmse", np.ones((1, 3)), "predict() returned an array of shape (1, 3) for 3 rows"),
        ("rmse", np.ones(4), "predict() returned an array of shape (4,) for 3 rows"),
        ("rmse", 1.0, "predict() returned an array of shape () for 3 rows"),
        ("rmse", ["a", "b", "c"], "predict() returned list, which is no array of numbers"),
        ("rmse", [[1.0], [1.0, 2.0], [3.0]], "predict() returned list, which is no array of numbers"),
        ("log_loss", np.ones((3, 1)), "predict_proba() returned an array of shape (3, 1) for 3 rows"),
        ("log_loss", np.ones((3, 5)), "predict_proba() returned an array of shape (3, 5) for 3 rows"),
        ("brier", np.ones(3), "predict_proba() returned an array of shape (3,) for 3 rows"),
    ],
)
def test_predictions_of_another_shape_are_refused_before_anything_is_made_of_them(metric, made, what):
    with pytest.raises(SanityError, match=f"^weight/GB: {re.escape(what)}.* Let it return "):
        predict(saying(made), ROWS, METRICS[metric], "weight/GB")


def test_a_metric_of_probabilities_needs_an_estimator_that_has_them():
    fitted = DummyRegressor().fit(ROWS, VALUES)
    with pytest.raises(SanityError, match=r"late: metric log_loss needs predict_proba\(\), which DummyRegressor does not have"):
        predict(fitted, ROWS, METRICS["log_loss"], "late")
