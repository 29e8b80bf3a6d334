"""The simulated world in a real table, its fleet over it: written once, landed, trained; one country's fault is its own."""

from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from perennial.catalog import load_catalog
from perennial.resources import Resources
from perennial.shell.database import connect, fetch
from perennial.shell.store import open_store
from perennial.spec import Days, Seconds
from perennial.steps import ingest, validate
from perennial.steps.audit import audit
from perennial.steps.plan import Request, plan
from perennial.steps.train import train
from worlds.ride_hailing import advance, position, prepare
from worlds.ride_hailing.countries import COUNTRIES, HISTORY, START, Incident

END = START + HISTORY
CENTS = Incident(kind="cents", start=END, end=END + Days(1))
TWO = tuple(
    replace(country, incidents=(CENTS,) if country.code == "CA" else ())
    for country in COUNTRIES
    if country.code in {"CA", "IE"}
)


@pytest.fixture(scope="module")
def resources(postgres, keys, tmp_path_factory):
    """A world of two countries, and Perennial beside it."""
    with closing(psycopg2.connect(postgres.dsn("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE rides")
            cursor.execute("CREATE DATABASE rides_perennial TEMPLATE template STRATEGY FILE_COPY")
    dsn = postgres.dsn("rides")
    prepare(dsn)
    return Resources(
        database=postgres.dsn("rides_perennial"),
        store=open_store((tmp_path_factory.mktemp("rides") / "store").as_uri()),
        signing_key=keys[0],
        public_keys=keys[1],
        source_dsn=lambda name: dsn,
    )


@pytest.fixture(scope="module")
def catalog():
    made = load_catalog()
    source = replace(made.sources["trips"], max_commit_lag=Seconds(0))
    codes = tuple(country.code for country in TWO)
    models = {name: replace(model, countries=codes) for name, model in made.fleet("ride_hailing").models.items()}
    fleets = {"ride_hailing": replace(made.fleet("ride_hailing"), models=models)}
    return replace(made, fleets=fleets, sources={"trips": source})


@pytest.fixture(scope="module")
def cycles(resources, catalog, tmp_path_factory):
    """The history, then the day of the incident, then the day after: outcomes and batches of each."""
    made, source = [], catalog.source("trips")
    for number in range(3):
        rows = advance(resources.source_dsn("rides_db"), END + Days(number), tmp_path_factory.mktemp("cache"), TWO)
        ingest.land(resources, source)
        states = validate.validate(resources, source)
        plan(resources, catalog, "ride_hailing", f"rides/{number}", Request())
        train(resources, catalog, f"rides/{number}")
        made.append((rows, states, ask(resources, "outcomes_of", run_id=f"rides/{number}")))
    return made


def ask(resources, query, **parameters):
    with closing(connect(resources.database)) as database:
        return fetch(database, query, **parameters)


def batch_states(resources, code):
    with closing(connect(resources.database)) as database, database.cursor() as cursor:
        cursor.execute("SELECT state FROM batches WHERE source = 'trips' AND country = %s ORDER BY seq", [code])
        return [state for (state,) in cursor.fetchall()]


def test_the_history_lands_and_every_cell_has_an_outcome(cycles):
    _, states, outcomes = cycles[0]
    assert states == {"accepted": 2, "quarantined": 0}
    assert len(outcomes) == 20
    assert {row.state for row in outcomes} <= {"published", "kept", "inconclusive"}


def test_the_larger_country_has_champions_of_nearly_every_model_and_the_smallest_of_some(cycles):
    published = {(row.model, row.country) for row in cycles[0][2] if row.state == "published"}
    assert {country for _, country in published} == {"CA", "IE"}
    assert len({model for model, country in published if country == "CA"}) >= 8


def test_prices_in_cents_stop_their_country_only(cycles, resources):
    assert cycles[1][1] == {"accepted": 1, "quarantined": 1}
    states = {code: batch_states(resources, code) for code in ("CA", "IE")}
    assert states["CA"] == ["accepted", "quarantined", "accepted"]
    assert states["IE"] == ["accepted"] * 3


def test_the_day_after_the_country_goes_on_with_prices_put_right(cycles):
    assert cycles[2][1] == {"accepted": 2, "quarantined": 0}


def test_no_cell_fails(cycles):
    assert [str(row) for _, _, outcomes in cycles for row in outcomes if row.state == "failed"] == []


def test_writing_up_to_the_same_moment_again_adds_nothing(cycles, resources, tmp_path):
    dsn = resources.source_dsn("rides_db")
    assert advance(dsn, END + Days(2), tmp_path, TWO) == 0
    assert position(dsn) == END + Days(2)


def test_what_is_landed_passes_the_audit(cycles, resources, catalog):
    assert audit(resources, catalog) == []
