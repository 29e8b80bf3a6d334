"""Samples: what is stored is read back type by type, and how far two environments may lie apart."""

import numpy as np
import pandas as pd
import pytest

from perennial.core import samples
from perennial.core.samples import Sample, decode_sample, distance, encode_sample, is_read_alike, sample_rows, spread_of

NUMBERS = np.linspace(0.1, 5, 4)
KINDS = {
    "float": [0.1, np.nan, 1e300, -0.0],
    "whole": pd.array([1, None, 2**60, 4], dtype="Int64"),
    "text": ["a", "b", None, "c"],
    "own text": np.array(["a", None, "b", "c"], dtype=object),
    "category": pd.Categorical(["b", None, "a", "b"], categories=["unused", "b", "a"], ordered=True),
    "truth": [True, False, True, True],
    "moment": pd.to_datetime(["2026-01-01", None, "2026-01-03", "2026-01-04"], utc=True),
    "small": np.array([1, 2, 3, 4], dtype="int8"),
}


def sample(features=None, **predicted):
    expected = {"judged": NUMBERS, "served": NUMBERS + 1} | predicted
    return Sample(features=pd.DataFrame({"x": NUMBERS}) if features is None else features, expected=expected, spread=2.0)


def read_back(made):
    return decode_sample(encode_sample(made), made.spread)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_read_back_as_they_were(kind):
    features = pd.DataFrame({"x": NUMBERS, kind: KINDS[kind]}, index=[7, 7, 8, 9])
    read = read_back(sample(features)).features
    pd.testing.assert_frame_equal(read, features.reset_index(drop=True), check_exact=True)
    assert [type(value) for value in read[kind]] == [type(value) for value in features[kind]]


def test_predictions_are_read_back_to_the_last_bit():
    read = read_back(sample())
    assert {name: list(values) for name, values in read.expected.items()} == {
        "judged": list(NUMBERS),
        "served": list(NUMBERS + 1),
    }
    assert read.spread == 2.0


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, "a", 2.5, None], dtype=object),
        pd.Series(["a", np.nan, "b", "c"], dtype=object),
        pd.Series([{"a": 1}, {"b": 2}, {}, {}], dtype=object),
    ],
)
def test_what_would_come_back_as_something_else_is_not_stored(column):
    assert encode_sample(sample(pd.DataFrame({"x": column}))) is None


def test_two_columns_of_one_name_are_not_stored():
    assert encode_sample(sample(pd.DataFrame(np.zeros((4, 2)), columns=["x", "x"]))) is None


@pytest.mark.parametrize(("number", "expected"), [(3, 3), (200, 200), (5001, 200)])
def test_rows_are_spread_over_all_of_them(number, expected):
    chosen = sample_rows(pd.DataFrame({"x": range(number)}))["x"]
    assert (len(chosen), chosen.iloc[0], chosen.iloc[-1]) == (expected, 0, number - 1)
    assert chosen.is_unique
    assert np.ptp(np.diff(chosen)) <= 1


@pytest.mark.parametrize(("error", "is_alike"), [(0.0, True), (1.9e-6, True), (2e-5, False), (np.nan, False)])
def test_what_is_read_predicts_the_same_but_for_the_last_digits(error, is_alike):
    for fit in samples.FITS:
        predicted = {**sample().expected, fit: sample().expected[fit] + error}
        assert is_read_alike(sample(), predicted) is is_alike


def test_the_distance_is_that_of_the_fit_that_lies_further():
    predicted = {"judged": NUMBERS + 0.2, "served": NUMBERS + 1 - 0.4}
    assert distance(sample(), predicted) == pytest.approx(0.2)
    assert np.isnan(distance(sample(), {**predicted, "judged": NUMBERS * np.nan}))


def test_a_target_that_does_not_vary_is_measured_in_its_own_unit():
    assert spread_of(np.ones(5)) == 1.0
    assert spread_of(np.array([0.0, 2.0])) == 1.0
    assert spread_of(np.array([0.0, 4.0])) == 2.0
