"""Whole cycles of a small fleet: what is published, kept, left alone."""

import pytest

from perennial.errors import FleetFailed, NothingToDo


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

    with pytest.raises(FleetFailed, match=r"weight/FR: StoreError: .* is not what the ledger recorded"):
        report(zoo.resources, zoo.catalog, run_id)
    assert zoo.outcomes(run_id)["weight/GB"].state == "published"
