"""Metrics of probabilities need labels of 0 and 1, and both of them."""

import pytest
from toolbox import edit_gate, releases
from toy_models.zoo import _heavy

LIGHT = 0.1  # times a length of at most ten: never above ten


@pytest.fixture
def heavy(zoo):
    """A fleet whose model says whether a weight is above ten."""
    zoo.edit(examples=_heavy.examples, estimator=_heavy.estimator, metric="log_loss", countries=("GB",))
    edit_gate(zoo, floor=1.0)
    return zoo


def outcome(zoo, *seen):
    for days, slope in seen:
        zoo.see("Britain", days, slope=slope)
    zoo.ingest()
    run_id = zoo.plan()
    zoo.train(run_id)
    return zoo.outcomes(run_id)["weight/GB"]


def test_two_classes_make_a_champion(heavy):
    assert outcome(heavy, (range(60), 2.0)).state == "published"


@pytest.mark.parametrize("refit", [True, False])
def test_one_class_to_train_on_is_inconclusive(heavy, refit):
    heavy.edit(refit=refit)
    ended = outcome(heavy, (range(55), LIGHT), (range(55, 60), 2.0))
    assert ended.state == "inconclusive"
    assert ended.reason.startswith("Only one class to train on: the target of all ")
    assert ended.reason.endswith(" rows is 0. Both are needed.")


def test_one_class_to_judge_on_is_inconclusive_and_a_verdict_with_its_gate(heavy):
    ended = outcome(heavy, (range(50), 2.0), (range(50, 60), LIGHT))
    assert (ended.state, releases(heavy)) == ("inconclusive", [])
    assert ended.reason.startswith("Only one class to judge on: the target of all ")
    (verdict,) = heavy.sql("SELECT decision, gates FROM verdicts")
    assert verdict.decision == "inconclusive"
    assert verdict.gates == [{"gate": "classes", "value": 1, "bound": 2, "passed": False}]


def test_labels_of_other_classes_are_refused_and_not_tried_again(heavy):
    def graded(rows, as_of):
        made = _heavy.examples(rows, as_of)
        return made.assign(target=made["target"] + 1)

    heavy.edit(examples=graded, attempts=3)
    ended = outcome(heavy, (range(60), 2.0))
    assert ended.state == "failed"
    assert ended.reason.startswith(
        "ExamplesError: Model weight: metric log_loss needs a target of 0 and 1; the target holds 1, 2. Let examples() "
    )
    assert len(heavy.sql("SELECT 1 FROM attempts")) == 1
