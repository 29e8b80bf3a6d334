"""The airports' files, from the drop to the champion: real flights, country codes of the fleet's own."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from perennial import Seconds
from perennial.catalog import load_catalog
from perennial.client import Champions
from perennial.resources import Resources
from perennial.shell.database import connect, fetch
from perennial.shell.store import open_store
from perennial.steps import ingest, validate
from perennial.steps.audit import examine
from perennial.steps.plan import Request, plan
from perennial.steps.report import report
from perennial.steps.train import train
from worlds import flights

MONTHS = [datetime(2013, month, 1, tzinfo=UTC) for month in (3, 4)]
CELLS = {(model, airport) for model in ("air_time", "arrival_late") for airport in ("EWR", "JFK", "LGA")}


@pytest.fixture
def resources(new_database, keys, tmp_path):
    """A Perennial whose files lie in a store of their own."""
    landing = open_store((tmp_path / "landing").as_uri())
    return Resources(
        database=new_database(),
        store=open_store((tmp_path / "store").as_uri()),
        signing_key=keys[0],
        public_keys=keys[1],
        source_dsn=lambda name: pytest.fail(f"there is no database {name}"),
        source_store=lambda name: {"landing_store": landing}[name],
    )


@pytest.fixture
def catalog():
    made = load_catalog()
    return replace(made, sources={"flights": replace(made.source("flights"), quiet=Seconds(0))})


def test_two_months_of_files_become_champions_and_are_judged_again(resources, catalog, tmp_path):
    ends = []
    for number, month in enumerate(MONTHS):
        assert flights.advance(resources.source_store("landing_store").url, month, tmp_path) > 20_000
        assert set(ingest.land(resources, catalog.source("flights"))) == {"EWR", "JFK", "LGA"}
        assert validate.validate(resources, catalog.source("flights")) == {"accepted": 3, "quarantined": 0}
        ends.append(cycle(resources, catalog, f"flights/{number}"))
    assert [{(row.model, row.country) for row in rows} for rows in ends] == [CELLS, CELLS]
    assert {row.state for row in ends[0]} == {"published"}
    assert {row.state for row in ends[1]} <= {"published", "kept", "inconclusive"}
    assert Champions.from_url(resources.store.url, resources.public_keys).load("air_time", "JFK").version
    findings = examine(resources, catalog)
    assert (findings.violations, findings.unseen, findings.seen["compared"]) == ([], [], findings.seen["rows"])


def cycle(resources, catalog, run_id):
    """Plan, train, report; the run's outcomes."""
    plan(resources, catalog, "flights", run_id, Request())
    train(resources, catalog, run_id)
    report(resources, catalog, run_id)
    database = connect(resources.database)
    try:
        return fetch(database, "outcomes_of", run_id=run_id)
    finally:
        database.close()
