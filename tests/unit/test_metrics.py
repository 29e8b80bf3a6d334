"""Metrics against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.dummy import DummyClassifier, DummyRegressor

from perennial import spec
from perennial.core.metrics import METRICS, predict

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
    assert predict(estimator, TARGET[:, None], METRICS["mae"]) == pytest.approx(np.full(100, TARGET.mean()))


def test_the_probability_of_class_1_is_predicted_for_a_metric_of_probabilities():
    estimator = DummyClassifier(strategy="prior").fit(TARGET[:, None], CLASSES)
    assert predict(estimator, TARGET[:, None], METRICS["brier"]) == pytest.approx(np.full(100, CLASSES.mean()))
