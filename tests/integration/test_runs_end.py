"""Runs end: by their own report, tried again until it is done, or by the next one; and what is decided stays decided."""

import pytest
from toolbox import execute, releases, states
from toy_models.zoo import _failing

from perennial import Owner
from perennial.errors import AlreadyDecided, FleetFailed, RegistryLost
from perennial.shell.database import connect
from perennial.steps import tell as tell_step
from perennial.steps.audit import audit
from perennial.steps.report import ABANDONED, Scheduler, report


@pytest.fixture
def fed(fed):
    """Fed, with an owner whose messages cannot be delivered: they wait in the registry."""
    fed.edit(owner=Owner("keepers", alerts=("json://localhost:9/nowhere",)))
    return fed


def open_runs(zoo):
    return [row.id for row in zoo.sql("SELECT id FROM runs WHERE finished_at IS NULL ORDER BY planned_at")]


def told(zoo):
    return {row.run_id: row.subject for row in zoo.sql("SELECT run_id, subject FROM messages")}


def reported(zoo, run_id, *over):
    zoo.train(run_id)
    return report(zoo.resources, zoo.catalog, run_id, Scheduler(page=lambda run: f"page of {run}", is_over=over.__contains__))


def test_a_run_that_is_over_without_a_report_is_closed_by_the_next_one_and_its_owner_told(fed):
    gone, active = fed.plan(countries=("GB",)), fed.plan(countries=("FR",))
    assert reported(fed, fed.plan(countries=("DE",)), gone) == {"published": 1}
    assert open_runs(fed) == [active]
    assert fed.outcomes(gone)["weight/GB"].reason == ABANDONED
    assert told(fed)[gone] == "[zoo] 1 of 1 cell failed"
    bodies = [row.body for row in fed.sql("SELECT body FROM messages WHERE run_id = %s", gone)]
    assert all(f"page of {gone}" in body and ABANDONED in body for body in bodies)
    assert states(fed, active) == {"weight/FR": "pending"}


def test_what_an_abandoned_run_has_released_is_its_outcome(fed):
    gone = fed.plan(countries=("GB",))
    fed.train(gone)
    assert reported(fed, fed.plan(countries=("DE",)), gone) == {"published": 1}
    assert (open_runs(fed), states(fed, gone)) == ([], {"weight/GB": "published"})
    assert told(fed)[gone] == "[zoo] 1 of 1 cell published"


def test_abandoned_runs_are_closed_by_a_report_that_fails_too(fed):
    gone = fed.plan(countries=("GB",))
    fed.edit(estimator=_failing.estimator, attempts=1)
    with pytest.raises(FleetFailed, match="1 of 1 cells of run zoo/run-2"):
        reported(fed, fed.plan(countries=("DE",)), gone)
    assert open_runs(fed) == []


def test_a_report_that_loses_the_registry_before_its_owners_are_noted_tells_them_at_its_retry(fed, monkeypatch):
    run_id = fed.plan(countries=("GB",))
    fed.train(run_id)

    def lost(dsn):
        raise RegistryLost

    with monkeypatch.context() as away, pytest.raises(RegistryLost):
        away.setattr(tell_step, "connect", lost)
        reported(fed, run_id)
    assert (open_runs(fed), told(fed)) == ([run_id], {})
    assert reported(fed, run_id) == {"published": 1}
    assert (open_runs(fed), told(fed)) == ([], {run_id: "[zoo] 1 of 1 cell published"})
    assert tell_step.connect is connect


def test_clearing_a_run_of_which_cells_failed_says_what_to_do_instead(fed):
    healthy = fed.catalog
    fed.edit(estimator=_failing.estimator, attempts=1)
    run_id = fed.plan(countries=("GB", "FR"))
    with pytest.raises(FleetFailed):
        reported(fed, run_id)
    fed.catalog = healthy
    with pytest.raises(AlreadyDecided) as refused:
        fed.plan_again(run_id)
    assert "2 of 2 cells failed. Clearing it trains nothing." in str(refused.value)
    assert str(refused.value).endswith("run of retrain_zoo with force, models weight and countries FR, GB.")
    again = fed.plan(force=True, countries=("GB", "FR"))
    assert reported(fed, again) == {"published": 2}


def test_clearing_a_run_that_is_open_goes_on_with_it_and_one_that_went_well_is_harmless(fed):
    run_id = fed.plan(countries=("GB",))
    assert fed.plan_again(run_id).cells == 1
    reported(fed, run_id)
    assert fed.plan_again(run_id).cells == 0
    assert len(releases(fed)) == 1


def test_an_audit_finds_runs_that_are_open_for_long(fed):
    reported(fed, fed.plan())
    fed.plan(force=True)
    fed.plan(force=True, dry_run=True)
    execute(fed.resources.database, "UPDATE perennial.runs SET planned_at = now() - interval '47 hours'")
    assert audit(fed.resources, fed.catalog) == []
    execute(fed.resources.database, "UPDATE perennial.runs SET planned_at = now() - interval '49 hours'")
    (found,) = audit(fed.resources, fed.catalog)
    assert found.rule == 10
    assert "zoo/run-2" in str(found)
    assert "is open: no report of fleet zoo has closed it" in str(found)
