"""From rows to examples: what is checked, and which examples are ready to learn from."""

import re

import numpy as np
import pandas as pd
import pytest
from toy_models.zoo.weight import weight

from perennial.core.examples import check_target, checked_features, matured_examples, missing_labels
from perennial.core.metrics import METRICS
from perennial.errors import ExamplesError
from perennial.spec import Days

NOW = pd.Timestamp("2026-01-11", tz="UTC")


@pytest.fixture
def made(make_rows):
    """Examples as the toy recipe makes them."""
    return weight.examples(make_rows(10), NOW)


def matured(made):
    return matured_examples(lambda rows, as_of: made, None, NOW, "weight")


def test_good_examples_come_back_sorted_by_event_time(made):
    shuffled = made.sample(frac=1, random_state=0)
    assert matured(shuffled).equals(made)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda made: made["target"], r"examples\(\) returned Series. Return a DataFrame"),
        (lambda made: made.drop(columns=["label_time", "target"]), "lacks label_time, target. Add the column"),
        (lambda made: pd.concat([made, made]), r"the index of examples\(\) is not unique"),
        (lambda made: made.assign(event_time=made["event_time"].dt.tz_localize(None)), "event_time is datetime64.*UTC"),
        (lambda made: made.assign(label_time="today"), "label_time is .*Make it a UTC timestamp"),
        (lambda made: made.assign(label_time=made["event_time"] - Days(1)), "a label is known before its event"),
    ],
)
def test_examples_of_another_form_are_refused(made, spoil, message):
    with pytest.raises(ExamplesError, match=f"Model weight: .*{message}"):
        matured(spoil(made))


def test_examples_whose_label_is_not_known_yet_are_dropped(made):
    late = made.assign(label_time=made["event_time"] + Days(3))
    kept = matured(late)
    assert len(kept) == 141
    assert (kept["label_time"] <= NOW).all()


def test_examples_without_a_label_are_dropped(made):
    made.loc[made.index[:5], "target"] = float("nan")
    made.loc[made.index[5:8], "label_time"] = pd.NaT
    assert len(matured(made)) == len(made) - 8


def test_examples_without_an_event_time_are_dropped_and_their_labels_not_missed(made):
    made = made.assign(event_time=made["event_time"].where(made.index >= 5), target=made["target"].where(made.index >= 2))
    assert (made["label_time"] <= NOW).all()
    assert len(matured(made)) == len(made) - 5
    assert missing_labels(made, NOW) == (0, len(made) - 5)


def test_missing_labels_are_counted_among_those_that_should_be_known(make_rows):
    made = weight.examples(make_rows(3), None)
    as_of, later = made["event_time"].max(), made["label_time"].where(made.index >= 10, made["label_time"] + Days(30))
    made = made.assign(target=made["target"].where(made.index >= 15), label_time=later)
    assert missing_labels(made, as_of) == (5, len(made) - 10)


def test_examples_of_the_future_are_dropped(make_rows):
    made = weight.examples(make_rows(20), NOW)
    assert matured(made)["event_time"].max() == NOW


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda examples: examples["length"].to_numpy(), r"features\(\) returned ndarray"),
        (lambda examples: examples[["length"]].iloc[1:], r"features\(\) changed the rows"),
        (lambda examples: examples[["length"]].iloc[::-1], r"features\(\) changed the rows"),
        (lambda examples: examples[["length"]].reset_index(drop=True).add(0).iloc[:-1], r"features\(\) changed the rows"),
        (lambda examples: examples, "returns label_time, unknown when predicting"),
    ],
)
def test_features_of_another_form_are_refused(made, features, message):
    with pytest.raises(ExamplesError, match=f"Model weight: .*{message}"):
        checked_features(features, made, "weight")


def test_good_features_come_back_as_they_are(made):
    assert checked_features(weight.features, made, "weight").equals(made[["length"]])


@pytest.mark.parametrize(
    "features",
    [
        lambda examples: examples[["length"]].assign(leak=examples["target"]),
        lambda examples: examples[["length"]].assign(leak=examples.target),
        lambda examples: examples[["length", "target"]],
        lambda examples: examples.drop(columns=["target", "label_time"]),
    ],
)
def test_features_do_not_get_the_target(made, features):
    with pytest.raises(ExamplesError, match=r"Model weight: features\(\) asks for the target, which it does not get"):
        checked_features(features, made, "weight")


def test_another_error_of_features_is_its_own(made):
    with pytest.raises(KeyError, match="width"):
        checked_features(lambda examples: examples[["width"]], made, "weight")


def test_what_features_write_to_their_argument_changes_no_example(made):
    def features(examples):
        examples["length"] *= 2
        examples.loc[examples.index[0], "length"] = 99.0
        examples["event_time"] = examples["label_time"]
        return examples[["length"]]

    before = made.copy(deep=True)
    assert checked_features(features, made, "weight").iloc[0, 0] == 99
    pd.testing.assert_frame_equal(made, before)


@pytest.mark.parametrize(
    "target",
    [
        [0, 1],
        [0.0, 1.0, None],
        [True, False],
        pd.array([True, None, False], dtype="boolean"),
        pd.array([0, 1, None], dtype="Int64"),
        [],
        [1, 1],
    ],
)
@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_zero_and_one_in_any_type_of_numbers_are_classes(target, metric):
    check_target(pd.DataFrame({"target": target}), METRICS[metric], "late")


@pytest.mark.parametrize(
    ("target", "values"),
    [
        ([1, 2], "1, 2"),
        ([-1.0, 1.0], "-1, 1"),
        ([0.0, 0.5, 1.0], "0, 0.5, 1"),
        ([0, 1, 2, 3, 4, 5, 6], "0, 1, 2, 3, 4 and 2 more"),
        (["0", "1"], "'0', '1'"),
        (["yes", "no", None], "'no', 'yes'"),
        (pd.Series(["yes", "no"], dtype="category"), "'no', 'yes'"),
    ],
)
def test_other_classes_are_refused_with_their_values_and_the_fix(target, values):
    message = f"Model late: metric log_loss needs a target of 0 and 1; the target holds {values}. Let examples() compare"
    with pytest.raises(ExamplesError, match=re.escape(message)):
        check_target(pd.DataFrame({"target": target}), METRICS["log_loss"], "late")


@pytest.mark.parametrize(
    ("target", "values"),
    [
        ([1.0, np.inf, -np.inf], "2 of 3 values are others, such as -inf, inf"),
        (["a", "b"], "such as 'a', 'b'"),
        (pd.to_datetime(["2026-01-01"]), "1 of 1 values are others"),
    ],
)
def test_a_metric_of_numbers_needs_finite_ones(target, values):
    with pytest.raises(ExamplesError, match=re.escape(values)):
        check_target(pd.DataFrame({"target": target}), METRICS["rmse"], "weight")
    check_target(pd.DataFrame({"target": [1.5, None, -2.0]}), METRICS["rmse"], "weight")
