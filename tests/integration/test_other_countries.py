"""Countries that a spec does not map: kept aside, or left out with a count; and country columns of numbers."""

import logging
from contextlib import closing
from dataclasses import replace

import pytest
from toolbox import edit_source, execute
from toy_files import sightings_files

from perennial.errors import NothingToDo, SourceMismatch
from perennial.shell.database import connect, fetch
from perennial.shell.store import open_store
from perennial.steps import ingest, validate
from perennial.steps.audit import examine
from perennial.steps.quarantine import validate_again

HEADER = "id,seen_at,country,length,weight"


def see(zoo, *countries):
    """One row of the table for each country."""
    for country in countries:
        insert = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, now(), %s, 1, 2)"
        execute(zoo.shop, insert, next(zoo.ids), country)


def drop(store, name, *countries):
    """Put a file with one row for each country."""
    rows = [f"{name}{number},2026-01-01T10:00:00Z,{country},1,2" for number, country in enumerate(countries)]
    store.put(f"in/{name}.csv", "\n".join([HEADER, *rows, ""]).encode())


def land(zoo):
    return ingest.land(zoo.resources, zoo.catalog.source("sightings"))


def states(zoo):
    with closing(connect(zoo.resources.database)) as database:
        batches = fetch(database, "held_batches", source="sightings", country=None, seq=None)
    return {batch.country: batch.reason for batch in batches}


def violations(zoo):
    return [str(each) for each in examine(zoo.resources, zoo.catalog, deep=True).violations]


@pytest.fixture
def numbered(zoo):
    """A zoo whose table says countries by their numbers."""
    execute(zoo.shop, "ALTER TABLE sightings ALTER COLUMN country TYPE bigint USING NULL")
    columns = zoo.catalog.source("sightings").columns
    typed = tuple(replace(each, type="int64") if each.name == "country" else each for each in columns)
    edit_source(zoo, columns=typed, countries={826: "GB", 250: "FR"})
    return zoo


def test_rows_of_countries_that_nobody_wants_are_left_out_and_counted_in_the_log(zoo, caplog):
    edit_source(zoo, other_countries="skip")
    see(zoo, "Britain", "Spain", "Spain", "Italy")
    with caplog.at_level(logging.INFO, "perennial"):
        assert land(zoo) == {"GB": 1}
    assert "sightings: left out 3 rows of other countries: 'Spain' (2), 'Italy' (1)" in caplog.messages
    assert violations(zoo) == []


def test_the_log_names_the_twenty_commonest_of_them(zoo, caplog):
    edit_source(zoo, other_countries="skip")
    see(zoo, "Britain", *(f"country {number}" for number in range(30)), "Spain", "Spain")
    with caplog.at_level(logging.INFO, "perennial"):
        land(zoo)
    (message,) = [message for message in caplog.messages if "left out" in message]
    assert "left out 32 rows of other countries: 'Spain' (2), " in message
    assert (message.count("country "), message.endswith(", …")) == (19, True)


def test_a_row_without_a_country_is_never_left_out(zoo):
    edit_source(zoo, other_countries="skip")
    see(zoo, None, "Spain")
    assert land(zoo) == {"ZZ": 1}


def test_where_all_rows_are_left_out_the_source_has_landed_them(zoo):
    edit_source(zoo, other_countries="skip")
    see(zoo, "Spain")
    with pytest.raises(NothingToDo):
        land(zoo)
    see(zoo, "Britain")
    assert land(zoo) == {"GB": 1}
    assert violations(zoo) == []


def test_rows_of_files_are_left_out_too(zoo, tmp_path):
    store = open_store((tmp_path / "drop").as_uri())
    zoo.resources = replace(zoo.resources, source_store=lambda name: store)
    texts = tuple(replace(each, type="string") if each.name == "id" else each for each in sightings_files.columns)
    source = replace(sightings_files, other_countries="skip", columns=texts)
    zoo.catalog = replace(zoo.catalog, sources={"sightings": source})
    for country in ("Britain", "Spain"):
        drop(store, "a", country, "Spain")
        assert land(zoo) == {"GB": 1}  # the second time as removed: it is no longer Britain's
    drop(store, "b", "Italy", "Spain")
    with pytest.raises(NothingToDo):
        land(zoo)
    counts = zoo.sql("SELECT rows, left_out, removed FROM files ORDER BY seen_at")
    assert [tuple(row) for row in counts] == [(2, 1, 0), (2, 2, 1), (2, 2, 0)]
    assert violations(zoo) == []


def test_what_was_kept_aside_before_stays_until_a_country_of_it_is_known(zoo):
    see(zoo, "Spain", "Italy")
    land(zoo)
    validate.validate(zoo.resources, zoo.catalog.source("sightings"))
    edit_source(zoo, other_countries="skip")
    again = validate_again(zoo.resources, zoo.catalog.source("sightings"), "ann", "unwanted")
    assert again == {"accepted": [], "quarantined": ["ZZ 1"]}
    countries = {**zoo.catalog.source("sightings").countries, "Spain": "ES"}
    edit_source(zoo, countries=countries)
    again = validate_again(zoo.resources, zoo.catalog.source("sightings"), "ann", "Spain is known")
    assert again == {"accepted": ["ES 1"], "quarantined": ["ZZ 2"]}


def test_a_country_column_of_numbers_lands_by_its_numbers(numbered):
    see(numbered, 826, 826, 250, 724, None)
    assert land(numbered) == {"GB": 2, "FR": 1, "ZZ": 2}
    validate.validate(numbered.resources, numbered.catalog.source("sightings"))
    reasons = states(numbered)
    assert list(reasons) == ["ZZ"]
    assert "724 (1)" in reasons["ZZ"]


@pytest.mark.parametrize("code", ["../../x", "a/b", ".x", ""])
def test_a_code_that_would_leave_its_folder_is_refused_where_paths_are_made(zoo, tmp_path, code):
    edit_source(zoo, countries={"Britain": code})
    see(zoo, "Britain")
    with pytest.raises(SourceMismatch, match="cannot name a folder"):
        land(zoo)
    assert [*tmp_path.rglob("*.parquet")] == []
    edit_source(zoo, countries={"Britain": "GB"})
    assert land(zoo) == {"GB": 1}
