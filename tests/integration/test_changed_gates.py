"""A changed gate or metric is another question: it has a verdict of its own, which says what was decided and why."""

import pytest
from toolbox import add_model, cycle, edit_gate, releases, states

from perennial.spec import Gate
from perennial.steps.audit import audit
from perennial.steps.material import criteria_of


def verdicts(zoo):
    return zoo.sql("SELECT * FROM verdicts WHERE (model, country) = ('weight', 'GB') ORDER BY id")


@pytest.fixture
def kept(zoo):
    """A zoo whose floor nothing has passed."""
    edit_gate(zoo, floor=0.01)
    assert cycle(zoo).reason.startswith("Below the floor")
    return zoo


def test_a_gate_that_is_relaxed_publishes_what_it_kept_when_forced(kept):
    edit_gate(kept, floor=2.0)
    add_model(kept, "height")
    run_id = kept.plan(force=True)
    kept.train(run_id)
    assert states(kept, run_id)["height/GB"] == states(kept, run_id)["weight/GB"] == "published"
    first, second = verdicts(kept)
    assert (first.challenger, first.decision, second.challenger) == (second.challenger, "keep", first.challenger)
    assert (second.decision, releases(kept)[0].verdict) == ("promote", second.id)
    assert kept.retrain(force=True)["weight/GB"].state == "skipped"
    assert audit(kept.resources, kept.catalog) == []


def test_a_gate_that_is_tightened_keeps_what_it_promoted_and_the_verdict_says_so(zoo):
    zoo.see("Britain", range(60))
    zoo.ingest()
    zoo.sql("INSERT INTO blockers (model, country, kind, person, reason) VALUES ('weight', 'GB', 'hold', 'Ada', 'wait')")
    assert zoo.retrain()["weight/GB"].state == "blocked"
    edit_gate(zoo, floor=0.01)
    outcome = zoo.retrain(force=True)["weight/GB"]
    assert (outcome.state, outcome.decision, releases(zoo)) == ("kept", "keep", [])
    assert [(verdict.decision, verdict.challenger) for verdict in verdicts(zoo)] == [
        ("promote", outcome.version),
        ("keep", outcome.version),
    ]
    floor = next(gate for gate in outcome.gates if gate["gate"] == "floor")
    assert (floor["bound"], floor["passed"]) == (0.01, False)


def test_the_same_question_asked_again_has_one_verdict(kept):
    assert kept.retrain(force=True)["weight/GB"].state == "kept"
    assert len(verdicts(kept)) == 1


def test_another_metric_is_another_question(kept):
    kept.edit(metric="mae")
    assert kept.retrain(force=True)["weight/GB"].reason.startswith("Below the floor")
    assert len({verdict.scores["challenger"] for verdict in verdicts(kept)}) == len(verdicts(kept)) == 2


def test_the_gain_that_owners_are_told_is_the_verdicts(zoo):
    cycle(zoo)
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    edit_gate(zoo, floor=0.01)
    assert zoo.retrain()["weight/GB"].state in ("kept", "inconclusive")
    edit_gate(zoo, floor=2.0)
    zoo.edit(metric="mae")
    outcome = zoo.retrain(force=True)["weight/GB"]
    first, second = verdicts(zoo)[-2:]
    assert second.challenger == outcome.version
    assert outcome.gain == second.scores["gain"] != first.scores["gain"]


def test_criteria_are_told_apart_by_value_and_not_by_how_they_are_written(zoo):
    weight = zoo.catalog.fleets["zoo"].models["weight"]
    zoo.edit(gate=Gate(**{**vars(weight.gate), "floor": 2}))
    assert criteria_of(zoo.catalog.fleets["zoo"].models["weight"]) == criteria_of(weight)
    for name, value in {"floor": 2.5, "margin": 0.02, "cluster": "hour", "min_rows": 101}.items():
        zoo.edit(gate=Gate(**{**vars(weight.gate), name: value}))
        assert criteria_of(zoo.catalog.fleets["zoo"].models["weight"]) != criteria_of(weight)


def test_criteria_are_the_same_in_every_process(zoo):
    weight = zoo.catalog.fleets["zoo"].models["weight"]
    assert criteria_of(weight) == "bab5c856b97f68d22dad21043cb9ce848bc7264a8669eaf9a9bb60044fed89e6"
