"""Where an object of a batch cannot be read, the message says which batch it is and what to enter in which form."""

import logging

import pytest
from toolbox import edit_source

from perennial.errors import NothingToDo, StoreError
from perennial.shell import lake
from perennial.steps import ingest
from perennial.steps.held import look
from perennial.steps.landed import changes_of
from perennial.steps.quarantine import extract_again, retract_batch, validate_again
from perennial.steps.validate import validate


def source_of(zoo):
    return zoo.catalog.source("sightings")


def spoil(zoo, country):
    """Alter the object of a country's first batch."""
    (row,) = zoo.sql("SELECT object_key FROM batches WHERE (country, seq) = (%s, 1)", country)
    zoo.resources.store.put(row.object_key, b"altered")


def form(action, country="GB", batch=1):
    return f"trigger quarantine_sightings with action {action}, country {country}, batch {batch}"


@pytest.fixture
def landed(zoo):
    """A British batch that is landed, not validated, and altered; and one of an unknown country."""
    zoo.see("Britain", range(3))
    zoo.see("Atlantis", range(3))
    ingest.land(zoo.resources, source_of(zoo))
    return zoo


def reason(zoo, country):
    return zoo.sql("SELECT reason FROM batches WHERE country = %s", country)[0].reason


def test_a_validation_that_cannot_read_its_batch_names_what_to_enter(landed):
    spoil(landed, "GB")
    validate(landed.resources, source_of(landed))
    said = reason(landed, "GB")
    assert "It holds batch sightings/GB 1. Restore it from a backup of the store" in said
    assert f"and {form('validate again')}; or {form('extract again')}." in said
    extract_again(landed.resources, source_of(landed), "GB", 1, "Ada", "its object is damaged")
    assert [row.state for row in landed.sql("SELECT state FROM batches WHERE country = 'GB' ORDER BY seq")] == [
        "retracted", "accepted"
    ]  # fmt: skip


def test_so_does_that_of_rows_of_unknown_countries(landed):
    spoil(landed, "ZZ")
    validate(landed.resources, source_of(landed))
    assert form("validate again", "ZZ") in reason(landed, "ZZ")


def test_so_does_looking_at_it(landed, caplog):
    validate(landed.resources, source_of(landed))
    spoil(landed, "ZZ")
    with caplog.at_level(logging.INFO):
        look(landed.resources, source_of(landed))
    assert form("validate again", "ZZ") in caplog.text


def test_a_batch_that_is_accepted_is_retracted_first(landed):
    validate(landed.resources, source_of(landed))
    spoil(landed, "GB")
    (batch,) = landed.rows("batch_of", source="sightings", country="GB", seq=1)
    with pytest.raises(StoreError, match=f"or {form('retract')}, and after that extract again"):
        changes_of(landed.resources, source_of(landed), batch)
    retract_batch(landed.resources, "sightings", "GB", 1, "Ada", "its object is damaged")
    (batch,) = landed.rows("batch_of", source="sightings", country="GB", seq=1)
    assert lake.fix_of(source_of(landed), batch).endswith(f"of the store, or {form('extract again')}.")


def test_a_batch_that_is_altered_stays_as_it_is_when_it_is_validated_again(landed):
    validate(landed.resources, source_of(landed))
    edit_source(landed, countries={**source_of(landed).countries, "Atlantis": "AT"})
    spoil(landed, "ZZ")
    validate_again(landed.resources, source_of(landed), "Ada", "it is known now")
    assert form("extract again", "ZZ") in reason(landed, "ZZ")
    with pytest.raises(NothingToDo):
        validate(landed.resources, source_of(landed))
