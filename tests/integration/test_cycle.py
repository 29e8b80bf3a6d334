"""Whole cycles of a small fleet: what is published, kept, left alone."""

import pytest

from perennial.decision import Decision
from perennial.errors import FleetFailed, NothingToDo
from perennial.steps.quarantine import carry_out


def test_first_cycle_publishes_the_first_models(zoo):
    for country in ("Britain", "France"):
        zoo.see(country, range(0, 60))
    zoo.ingest()
    outcomes = zoo.retrain()
    assert {cell: row.state for cell, row in outcomes.items()} == {
        "weight/GB": "published",
        "weight/FR": "published",
    }
    assert outcomes["weight/GB"].release_seq == 1


def test_a_good_challenger_replaces_the_champion_of_the_cycle_before(zoo):
    zoo.see("Britain", range(0, 60))
    zoo.ingest()
    zoo.retrain()
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    outcome = zoo.retrain()["weight/GB"]
    assert (outcome.state, outcome.release_seq, outcome.against_seq) == ("published", 2, 1)


def test_a_cell_without_new_rows_is_not_due(zoo):
    zoo.see("Britain", range(0, 60))
    zoo.ingest()
    zoo.retrain()
    assert zoo.retrain() == {}
    zoo.see("Britain", range(60, 61), per_day=5)
    zoo.ingest()
    assert "15 more are needed" in zoo.retrain()["weight/GB"].reason


def test_ingest_without_new_rows_has_nothing_to_do(zoo):
    zoo.see("Britain", range(0, 3))
    zoo.ingest()
    with pytest.raises(NothingToDo):
        zoo.ingest()


def test_a_failing_cell_fails_alone_and_the_report_names_it(zoo):
    for country in ("Britain", "France"):
        zoo.see(country, range(0, 60))
    zoo.ingest()
    key = zoo.sql("SELECT object_key FROM batches WHERE country = 'FR'")[0].object_key
    zoo.resources.store.put(key, b"overwritten")
    run_id = zoo.plan()
    zoo.train(run_id)
    from perennial.steps.report import report

    with pytest.raises(FleetFailed, match=r"weight/FR: StoreError: .* is not what the ledger recorded") as failed:
        report(zoo.resources, zoo.catalog, run_id)
    form = "trigger quarantine_sightings with action retract, country FR, batch 1, and after that extract again."
    assert "It holds batch sightings/FR 1. Restore it from a backup of the store" in str(failed.value)
    assert form in str(failed.value)
    assert zoo.outcomes(run_id)["weight/GB"].state == "published"


def failing(zoo):
    """Outcomes of a run that has failed."""
    run_id = zoo.plan()
    zoo.train(run_id)
    return zoo.outcomes(run_id)


def test_a_lost_batch_is_named_as_the_quarantines_form_asks_for_it_and_that_heals_it(zoo):
    zoo.see("Britain", range(0, 60))
    zoo.ingest()
    zoo.resources.store.delete(zoo.sql("SELECT object_key FROM batches")[0].object_key)
    reason = failing(zoo)["weight/GB"].reason
    assert reason.startswith("ObjectMissing: ")
    assert "with action retract, country GB, batch 1, and after that extract again." in reason
    source = zoo.catalog.source("sightings")
    for action in ("retract", "extract again"):
        asked = Decision(action=action, country="GB", seq=1, person="Ada", reason="Lost.")
        carry_out(zoo.resources, source, asked)
    assert zoo.retrain()["weight/GB"].state == "published"
