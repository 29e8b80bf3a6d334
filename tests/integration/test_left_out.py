"""A run that did nothing says why: each cell that is left out of a plan has its reason on record and in the logs."""

import logging

import pytest
from toolbox import add_model
from toy_models.zoo import _failing

from perennial.errors import FleetFailed
from perennial.steps.plan import moment
from perennial.steps.report import report


def left_out(zoo, run_id):
    """Cells that were left out of a run, by reason."""
    (planned,) = zoo.rows("run_of", id=run_id)
    return {why: left["first"] for why, left in planned.left_out.items()}


def reported(zoo, run_id, caplog):
    """What the report of a run logs."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "perennial.steps.report"):
        report(zoo.resources, zoo.catalog, run_id)
    return [(record.levelname, record.getMessage()) for record in caplog.records if "report" in record.name]


def test_where_nothing_is_new_report_says_so(fed, caplog):
    fed.retrain()
    run_id = fed.plan()
    said = reported(fed, run_id, caplog)
    why = "No row later than those that it was last judged on is accepted."
    assert left_out(fed, run_id) == {why: ["weight/DE", "weight/FR", "weight/GB"]}
    assert said == [
        ("WARNING", f"No cell of run {run_id} was due, so nothing was trained."),
        ("INFO", f"Not planned: weight/DE, weight/FR, weight/GB: {why}"),
    ]


def test_a_country_without_rows_and_one_that_a_model_does_not_have_are_named(fed, caplog):
    add_model(fed, "height", countries=("GB", "ES"))
    run_id = fed.plan(models=("weight", "height"), countries=("GB", "ES"))
    assert left_out(fed, run_id) == {
        "Source sightings has no accepted rows for ES.": ["height/ES"],
        "Model weight has no country ES.": ["weight/ES"],
    }
    fed.train(run_id)
    assert ("INFO", "Not planned: weight/ES: Model weight has no country ES.") in reported(fed, run_id, caplog)


def test_an_as_of_before_the_last_verdict_is_told(fed):
    fed.retrain()
    run_id = fed.plan(as_of=moment("2026-02-01"), countries=("GB",))
    why = "It was judged as of later than 2026-02-01 00:00 already. Force asks again."
    assert left_out(fed, run_id) == {why: ["weight/GB"]}


def test_an_as_of_before_the_data_is_told(fed):
    run_id = fed.plan(as_of=moment("2001-02-01"), countries=("GB",))
    fed.train(run_id)
    assert fed.outcomes(run_id)["weight/GB"].reason == (
        "Source sightings has no rows of GB from 2000-11-13 00:00 to 2001-02-01 00:00, which weight reads as of then."
    )


def test_of_very_many_cells_the_number_and_the_first_are_kept(fed, monkeypatch, caplog):
    monkeypatch.setattr("perennial.steps.plan.SHOWN", 2)
    fed.retrain()
    run_id = fed.plan()
    assert [len(cells) for cells in left_out(fed, run_id).values()] == [2]
    assert "Not planned: weight/DE, weight/FR and 1 more: No row" in reported(fed, run_id, caplog)[1][1]


def test_failed_cells_come_first_in_the_reports_log_as_errors(fed, caplog):
    add_model(fed, "youth", estimator=_failing.estimator, attempts=1, countries=("GB",))
    run_id = fed.plan()
    fed.train(run_id)
    with pytest.raises(FleetFailed):
        reported(fed, run_id, caplog)
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.endswith("report")]
    assert [level for level, _ in said] == ["ERROR", "INFO", "INFO", "INFO"]
    assert said[0][1].startswith("youth/GB: failed. ValueError: this recipe is broken in Failing.fit, ")
