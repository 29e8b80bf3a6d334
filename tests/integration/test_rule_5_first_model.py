"""Rule 5: a first model passes the floor, beats a naive baseline, and passes the sanity checks."""

import pytest
from toolbox import cycle, edit_gate, releases

from perennial.core import training


def gates(outcome):
    return {gate["gate"]: gate["passed"] for gate in outcome.gates}


def test_a_good_first_model_is_published_against_nothing(zoo):
    outcome = cycle(zoo)
    assert (outcome.state, outcome.against_seq, outcome.champion) == ("published", 0, None)
    assert gates(outcome) == {"floor": True, "baseline": True}


def test_a_first_model_beneath_the_floor_is_kept_out(zoo):
    edit_gate(zoo, floor=0.1)
    outcome = cycle(zoo)
    assert outcome.reason.startswith("Below the floor: rmse 0.")
    assert outcome.reason.endswith("allowed 0.1.")
    assert (outcome.state, gates(outcome)["floor"], releases(zoo)) == ("kept", False, [])


def test_a_first_model_no_better_than_the_mean_is_kept_out(zoo):
    zoo.see("Britain", range(60), slope=0)
    zoo.ingest()
    outcome = zoo.retrain()["weight/GB"]
    assert "better than the naive baseline: rmse 0.4919 against 0.4923" in outcome.reason
    assert (outcome.state, gates(outcome)["baseline"], releases(zoo)) == ("kept", False, [])


@pytest.mark.parametrize("seed", range(5))
def test_no_luck_brings_in_a_first_model_that_knows_nothing(zoo, seed):
    zoo.see("Britain", range(60), per_day=20 + seed, slope=0)
    zoo.ingest()
    assert (zoo.retrain()["weight/GB"].state, releases(zoo)) == ("kept", [])


def test_a_first_model_that_predicts_beyond_reason_is_kept_out(zoo, monkeypatch):
    monkeypatch.setattr(training, "RANGE_SLACK", -0.5)
    zoo.see("Britain", range(60))
    zoo.ingest()
    zoo.train(zoo.plan())
    assert zoo.outcomes("zoo/run-1")["weight/GB"].reason.startswith("SanityError: weight/GB judged fit")
    assert releases(zoo) == []


def test_a_later_first_model_gets_its_chance_when_the_data_are_good(zoo):
    cycle(zoo, range(3))
    outcome = cycle(zoo, range(3, 60))
    assert (outcome.state, outcome.release_seq) == ("published", 1)


def examples(rows, as_of):
    """Two thirds of the labels went missing on their way."""
    return rows.assign(
        event_time=rows["seen_at"], label_time=rows["seen_at"], target=rows["weight"].where(rows.index.to_series() % 3 == 0)
    )  # fmt: skip


def test_a_model_whose_labels_are_missing_is_not_judged_on_the_others(zoo):
    zoo.edit(examples=examples)
    outcome = cycle(zoo)
    assert outcome.state == "inconclusive"
    assert outcome.reason.startswith("Labels are missing: 800 of 1,200 examples whose label should be known have none (67%)")
    edit_gate(zoo, max_missing_labels=0.7)
    assert zoo.retrain()["weight/GB"].state == "published"
