"""Fitting: which rows, how repeatable, and what makes a fit unusable."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy_models.zoo.weight import examples, weight

from perennial.core.artifacts import encode_estimator
from perennial.core.training import Fit, check_distance, check_sane, fit, training_rows
from perennial.errors import SanityError
from perennial.spec import Days, Gate

CUT = pd.Timestamp("2026-03-01", tz="UTC")
GATE = Gate(floor=1, max_refit_distance=0.5)


@pytest.fixture
def made(make_rows):
    """Examples of 80 days, their labels known two days after the event."""
    known = examples(make_rows(80), None)
    return known.assign(label_time=known["event_time"] + Days(2))


def forest():
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.pipeline import make_pipeline

    return make_pipeline(RandomForestRegressor(n_estimators=3))


def test_a_training_sees_only_labels_known_before_the_cut(made):
    train = training_rows(made, weight, CUT)
    assert train["label_time"].max() < CUT
    assert train["event_time"].max() < CUT - Days(2)


def test_a_label_known_at_the_very_cut_is_not_trained_on(made):
    made["label_time"] = CUT
    assert training_rows(made, weight, CUT).empty


def test_a_training_sees_its_window_only(made):
    train = training_rows(made, replace(weight, window=Days(10)), CUT)
    assert train["event_time"].min() == CUT - Days(10)


def test_a_fit_says_what_it_saw(made):
    fitted = fit(weight, made)
    assert fitted.until == made["label_time"].max()
    assert (fitted.rows, fitted.target_mean) == (1600, pytest.approx(made["target"].mean()))
    assert (fitted.target_min, fitted.target_max) == (made["target"].min(), made["target"].max())


def test_the_same_seed_gives_the_same_fit(made):
    model = replace(weight, estimator=forest, seed=1)
    once, again, other = (encode_predictions(fit(chosen, made), made) for chosen in (model, model, replace(model, seed=2)))
    assert (once == again).all()
    assert (once != other).any()


def encode_predictions(fitted, made):
    assert encode_estimator(fitted.estimator)
    return fitted.estimator.predict(made[["length"]])


def test_a_seed_that_the_recipe_sets_stays(made):
    def estimator():
        return forest().set_params(randomforestregressor__random_state=7)

    fitted = fit(replace(weight, estimator=estimator, seed=1), made)
    assert fitted.estimator.get_params()["randomforestregressor__random_state"] == 7


def test_predictions_within_the_widened_range_are_sane(made):
    fitted = fit(weight, made)
    span = fitted.target_max - fitted.target_min
    check_sane(np.array([fitted.target_min - 0.9 * span, fitted.target_max + 0.9 * span]), fitted, "weight/GB")


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ([1.0, np.nan, np.inf], "2 of 3 predictions are not finite"),
        ([1.0, 99.0], "1 of 2 predictions lie outside"),
        ([-99.0, 1.0], "1 of 2 predictions lie outside"),
    ],
)
def test_predictions_that_cannot_be_used_are_refused(made, predicted, message):
    with pytest.raises(SanityError, match=f"weight/GB: {message}"):
        check_sane(np.array(predicted), fit(weight, made), "weight/GB")


def test_a_refit_near_the_judged_fit_is_served():
    target = np.array([0.0, 2.0])
    assert check_distance(np.array([1.4, 1.4]), np.array([1.0, 1.0]), target, GATE, "weight/GB") == pytest.approx(0.4)


def test_a_refit_far_from_the_judged_fit_is_refused():
    target = np.array([0.0, 2.0])
    with pytest.raises(SanityError, match=r"0\.60 standard deviations .*refit=False"):
        check_distance(np.array([1.6, 1.6]), np.array([1.0, 1.0]), target, GATE, "weight/GB")


def test_a_constant_target_does_not_break_the_distance():
    assert check_distance(np.array([1.0]), np.array([1.0]), np.array([5.0]), GATE, "weight/GB") == 0


def test_rows_of_the_window_come_as_they_are_where_others_lie_between(made):
    late = made.index[48]
    made.loc[late, "label_time"] = CUT + Days(1)
    window, cut = made[10:50], made["label_time"].iloc[49] + Days(0.001)
    spec = replace(weight, window=cut - made["event_time"].iloc[10])
    assert training_rows(made, spec, cut).index.tolist() == [row for row in window.index if row != late]


def test_rows_of_the_window_are_one_piece_where_none_lie_between(made):
    cut = made["label_time"].iloc[49] + Days(0.001)
    spec = replace(weight, window=cut - made["event_time"].iloc[10])
    train = training_rows(made, spec, cut)
    assert train.index.tolist() == made.index[10:50].tolist()
    assert np.shares_memory(train["target"], made["target"])
    assert training_rows(made[:0], spec, cut).empty


@pytest.mark.parametrize(("predicted", "is_sane"), [(-1.0, True), (2.0, True), (-1.01, False), (2.01, False)])
def test_the_range_is_widened_by_itself_and_its_ends_are_in_it(predicted, is_sane):
    fitted = Fit(estimator=None, until=CUT, rows=2, target_mean=0.5, target_min=0.0, target_max=1.0)
    if is_sane:
        check_sane(np.array([predicted, 0.5]), fitted, "weight/GB")
        return

    with pytest.raises(SanityError, match=r"1 of 2 predictions lie outside \[-1, 2\]"):
        check_sane(np.array([predicted, 0.5]), fitted, "weight/GB")


def test_the_range_is_widened_by_its_own_width():
    fitted = Fit(estimator=None, until=CUT, rows=2, target_mean=1.5, target_min=1.0, target_max=2.0)
    check_sane(np.array([0.0, 3.0]), fitted, "weight/GB")
    with pytest.raises(SanityError, match=r"1 of 1 predictions lie outside \[0, 3\]"):
        check_sane(np.array([3.1]), fitted, "weight/GB")


def test_the_distance_from_a_constant_target_is_in_its_own_unit():
    constant = np.array([5.0, 5.0])
    assert check_distance(constant + 0.4, constant, constant, GATE, "weight/GB") == pytest.approx(0.4)


def test_the_distance_is_in_standard_deviations_of_the_target():
    served, judged = np.array([5.0, 1.0]), np.array([2.0, 4.0])
    gate = replace(GATE, max_refit_distance=1.5)
    assert check_distance(served, judged, np.array([0.0, 4.0]), gate, "weight/GB") == pytest.approx(1.5)
