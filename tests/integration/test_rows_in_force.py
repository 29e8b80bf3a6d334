"""Rule 6: a row in force is in force once, wherever it moves: in time, to another country, out of the table."""

from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
from psycopg2.extras import Json
from toolbox import DAY, START, edit_source, execute

from perennial import Column
from perennial.errors import RegistryError
from perennial.shell.key_hashes import key_hashes
from perennial.shell.lake import Reader
from perennial.steps import ingest, landing, quarantine, validate
from perennial.steps.audit import audit

ALWAYS = (START - 1000 * DAY, START + 1000 * DAY)
INSERT = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, %s, %s, 1, %s)"
PASSED = Json({"findings": [{"success": True, "severity": "critical"}]})
ACCEPT = "UPDATE batches SET state = 'accepted', decided_at = now(), report = %s WHERE state = 'landed' AND country <> 'ZZ'"


@pytest.fixture
def shop(zoo):
    """A zoo whose table holds one row per key, with the time of its change."""
    execute(zoo.shop, "ALTER TABLE sightings DROP CONSTRAINT sightings_pkey, ADD PRIMARY KEY (id)")
    return zoo


def source_of(zoo):
    return zoo.catalog.source("sightings")


def land(zoo):
    ingest.land(zoo.resources, source_of(zoo))


def accepted(zoo):
    """Land what is there and accept it, as a validation does, without its seconds."""
    land(zoo)
    zoo.sql(ACCEPT, PASSED)


def put(zoo, number, country="Britain", day=0, weight=1.0):
    execute(zoo.shop, INSERT, number, START + day * DAY, country, weight)


def change(zoo, number, assignment, *values):
    execute(zoo.shop, f"UPDATE sightings SET {assignment}, changed_at = now() WHERE id = %s", *values, number)


def read(zoo, country="GB", window=ALWAYS, query="objects_of", **how):
    """Weights by key as a training reads them."""
    decided = zoo.rows("last_decided", source="sightings", country=country)
    if not decided:
        return {}
    asked = {"source": "sightings", "country": country, "last_seq": decided[0].last_seq, "start": window[0], "end": window[1]}
    names = ["id", "weight"]
    rows = Reader(zoo.resources.store, source_of(zoo), names).rows(zoo.rows(query, **asked), names, *window, **how)
    return dict(zip(rows["id"].tolist(), rows["weight"].tolist(), strict=True))


def sizes(zoo):
    return {f"{row.country} {row.seq}": row.rows for row in zoo.sql("SELECT country, seq, rows FROM batches")}


@pytest.mark.parametrize("query", ["objects_of", "batches_of"])
@pytest.mark.parametrize("day", [-500, 500])
def test_a_row_that_is_corrected_out_of_the_window_is_read_no_more(shop, day, query):
    window = (START - DAY, START + 5 * DAY)
    put(shop, 1), put(shop, 2, day=1)
    accepted(shop)
    change(shop, 1, "seen_at = %s", START + day * DAY)
    accepted(shop)
    assert read(shop, window=window, query=query) == {2: 1.0}
    assert read(shop, query=query) == {1: 1.0, 2: 1.0}


def test_a_row_that_is_corrected_into_the_window_is_read_once(shop):
    put(shop, 1, day=-500)
    accepted(shop)
    change(shop, 1, "seen_at = %s, weight = 7", START)
    accepted(shop)
    assert read(shop, window=(START - DAY, START + DAY)) == {1: 7.0}


def test_what_was_known_then_is_read_as_if_later_changes_were_not(shop):
    put(shop, 1)
    accepted(shop)
    ((until,),) = shop.sql("SELECT clock_timestamp()")
    change(shop, 1, "seen_at = %s, weight = 7", START + 500 * DAY)
    accepted(shop)
    window = (START - DAY, START + DAY)
    assert read(shop, window=window, known_until=until) == {1: 1.0}
    assert read(shop, window=window) == {}


def test_a_row_that_moves_to_another_country_is_in_force_there_alone(shop):
    for number in range(30):
        put(shop, number)
    accepted(shop)
    change(shop, 3, "country = 'France', weight = 5")
    accepted(shop)
    assert (len(read(shop)), read(shop, "FR")) == (29, {3: 5.0})
    assert sizes(shop) == {"GB 1": 30, "GB 2": 1, "FR 1": 1}
    assert audit(shop.resources, shop.catalog, deep=True) == []


def test_a_row_that_moves_back_and_on_is_in_force_where_it_was_last(shop):
    put(shop, 1)
    accepted(shop)
    for country, code in (("France", "FR"), ("Britain", "GB"), ("Germany", "DE"), ("France", "FR")):
        change(shop, 1, "country = %s", country)
        accepted(shop)
        assert [place for place in ("GB", "FR", "DE") if read(shop, place)] == [code]
    assert audit(shop.resources, shop.catalog, deep=True) == []


def test_a_row_of_an_unknown_country_has_left_the_one_that_it_was_in(shop):
    put(shop, 1), put(shop, 2)
    accepted(shop)
    change(shop, 1, "country = 'Narnia'")
    accepted(shop)
    assert read(shop) == {2: 1.0}
    change(shop, 1, "country = 'France'")
    accepted(shop)
    assert (read(shop), read(shop, "FR")) == ({2: 1.0}, {1: 1.0})
    assert [row.rows for row in shop.sql("SELECT rows FROM batches WHERE country = 'ZZ'")] == [1]


def test_rows_of_a_country_that_the_spec_knows_by_now_do_not_come_back_where_they_have_moved_on(shop):
    put(shop, 1, "Narnia"), put(shop, 2, "Narnia")
    accepted(shop)
    shop.sql("UPDATE batches SET state = 'quarantined', reason = 'ZZ', decided_at = now() WHERE country = 'ZZ'")
    change(shop, 1, "country = 'France'")
    accepted(shop)
    edit_source(shop, countries={**source_of(shop).countries, "Narnia": "NA"})
    quarantine.validate_again(shop.resources, source_of(shop), "ann", "Narnia is known")
    assert (read(shop, "NA"), read(shop, "FR")) == ({2: 1.0}, {1: 1.0})
    change(shop, 2, "country = 'Britain'")
    accepted(shop)
    assert (read(shop, "NA"), read(shop)) == ({}, {2: 1.0})


def test_changes_of_one_landing_in_two_countries_leave_the_row_in_the_later_one(zoo):
    for minute, country in enumerate(("Britain", "France", "Britain", "Germany")):
        moment = START + minute * timedelta(minutes=1)
        execute(zoo.shop, "INSERT INTO sightings VALUES (1, %s, %s, %s, 1, %s)", moment, START, country, minute)
    accepted(zoo)
    assert (read(zoo), read(zoo, "FR"), read(zoo, "DE")) == ({}, {}, {1: 3.0})
    assert audit(zoo.resources, zoo.catalog, deep=True) == []


def test_extracting_a_held_batch_again_takes_its_rows_from_where_they_were_and_keeps_what_has_left_it(shop):
    for number in range(4):
        put(shop, number)
    accepted(shop)
    change(shop, 1, "country = 'France'"), change(shop, 2, "weight = 9")
    land(shop)
    shop.sql("UPDATE batches SET state = 'quarantined', reason = 'r', decided_at = now() WHERE state = 'landed'")
    execute(shop.shop, "UPDATE sightings SET country = 'Germany' WHERE id = 2")  # mended without a new changed_at
    assert read(shop) == dict.fromkeys(range(4), 1.0)
    quarantine.extract_again(shop.resources, source_of(shop), "GB", 2, "ann", "mended")
    assert (read(shop), read(shop, "DE")) == ({0: 1.0, 3: 1.0}, {2: 9.0})
    quarantine.extract_again(shop.resources, source_of(shop), "FR", 1, "ann", "mended")
    assert (read(shop), read(shop, "FR")) == ({0: 1.0, 3: 1.0}, {1: 1.0})
    assert audit(shop.resources, shop.catalog, deep=True) == []


@pytest.mark.parametrize("kind", ["bool", "timestamptz"])
def test_a_row_that_its_table_marks_as_deleted_is_read_no_more_and_asked_nothing(shop, kind):
    execute(shop.shop, f"ALTER TABLE sightings ADD COLUMN gone {kind}")
    gone = Column("gone", kind.removesuffix("tz"))
    edit_source(shop, columns=(*source_of(shop).columns, gone), deleted="gone")
    put(shop, 1), put(shop, 2)
    land(shop)
    validate.validate(shop.resources, source_of(shop))
    change(shop, 1, f"weight = 5000, gone = {'true' if kind == 'bool' else 'now()'}")
    land(shop)
    assert validate.validate(shop.resources, source_of(shop)) == {"accepted": 1, "quarantined": 0}
    assert read(shop) == {2: 1.0}
    assert shop.sql("SELECT rejected_rows FROM splits") == []
    assert audit(shop.resources, shop.catalog, deep=True) == []


def test_a_deleted_row_is_taken_out_although_another_value_of_it_cannot_be_read(shop):
    execute(shop.shop, "ALTER TABLE sightings ADD COLUMN gone bool")
    edit_source(shop, columns=(*source_of(shop).columns, Column("gone", "bool")), deleted="gone")
    put(shop, 1), put(shop, 2)
    accepted(shop)

    change(shop, 1, "weight = 'infinity', gone = true"), change(shop, 2, "weight = 'infinity'")
    land(shop)
    assert shop.sql("SELECT rows, unreadable_rows FROM batches ORDER BY seq DESC LIMIT 1") == [(1, 1)]
    shop.sql(ACCEPT, PASSED)
    assert read(shop) == {2: 1.0}


def test_the_column_of_deleted_rows_may_be_named_removed(shop):
    execute(shop.shop, "ALTER TABLE sightings ADD COLUMN removed bool")
    edit_source(shop, columns=(*source_of(shop).columns, Column("removed", "bool")), deleted="removed")
    put(shop, 1), put(shop, 2), put(shop, 3)
    accepted(shop)
    change(shop, 1, "removed = true"), change(shop, 2, "country = 'France'")
    accepted(shop)
    assert (read(shop), read(shop, "FR")) == ({3: 1.0}, {2: 1.0})


def test_a_lake_from_before_the_index_is_looked_up_once(shop, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(ingest, "with_moves", lambda resources, database, source, batches: (batches.close(), None))
        for number in range(5):
            put(shop, number)
        accepted(shop)
    assert shop.sql("SELECT 1 FROM key_indexes") == []
    change(shop, 3, "country = 'France'")
    accepted(shop)
    assert (sorted(read(shop)), read(shop, "FR")) == ([0, 1, 2, 4], {3: 1.0})
    assert shop.sql("SELECT country, count(*) FROM key_places GROUP BY country ORDER BY country") == [("FR", 1), ("GB", 5)]


def test_an_audit_sees_rows_that_were_in_force_twice_before_and_a_new_change_takes_them_out(shop, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(ingest, "with_moves", lambda resources, database, source, batches: (batches.close(), None))
        put(shop, 1), put(shop, 2)
        accepted(shop)
        change(shop, 1, "country = 'France'")
        accepted(shop)
    (found,) = audit(shop.resources, shop.catalog, deep=True)
    assert (found.rule, "1 keys are in force in two countries, such as id 1" in found.what) == (6, True)
    change(shop, 1, "weight = 2")
    accepted(shop)
    assert audit(shop.resources, shop.catalog, deep=True) == []
    assert (read(shop), read(shop, "FR")) == ({2: 1.0}, {1: 2.0})


def test_an_index_of_another_key_is_made_again(shop):
    put(shop, 1), put(shop, 2)
    accepted(shop)
    ((former,),) = shop.sql("SELECT made_of FROM key_indexes")
    shop.sql("UPDATE key_indexes SET made_of = '0: id int64'")
    shop.sql("UPDATE key_places SET key_hash = key_hash + 1")
    change(shop, 1, "country = 'France'")
    accepted(shop)
    assert shop.sql("SELECT made_of FROM key_indexes") == [(former,)]
    assert (read(shop), read(shop, "FR")) == ({2: 1.0}, {1: 1.0})


def test_a_landing_whose_keys_came_elsewhere_since_they_were_looked_up_is_refused(shop, monkeypatch):
    put(shop, 1)
    accepted(shop)
    put(shop, 2)
    with monkeypatch.context() as racing, pytest.raises(RegistryError, match="landed elsewhere meanwhile"):
        started, record = [], landing.transaction

        def overtaken(database):
            if not started:
                started.append(shop.sql("UPDATE key_indexes SET changes = changes + 1"))
                hashes = key_hashes(pa.table({"id": [2]}), ["id"]).tolist()
                shop.sql("INSERT INTO key_places SELECT number, %s, 'FR' FROM key_indexes", *hashes)
            return record(database)

        racing.setattr(landing, "transaction", overtaken)
        land(shop)
    assert sizes(shop) == {"GB 1": 1}
    accepted(shop)
    assert (read(shop), sizes(shop)["FR 1"]) == ({1: 1.0, 2: 1.0}, 1)


def test_a_small_landing_looks_up_its_own_keys_alone(shop, monkeypatch):
    for number in range(200):
        put(shop, number)
    accepted(shop)
    put(shop, 1000)
    asked = []
    from perennial.steps import places

    fetch = places.fetch
    monkeypatch.setattr(places, "fetch", lambda *given, **values: asked.append(values) or fetch(*given, **values))
    accepted(shop)
    assert [values["hashes"].count(",") for values in asked if "hashes" in values] == [0]
    assert shop.sql("SELECT count(*) FROM key_places") == [(201,)]


def test_a_key_named_removed_that_says_nothing_of_deletion_is_a_fault(shop):
    source = source_of(shop)
    wrong = replace(source, columns=(*source.columns, Column("removed", "string")))
    assert any("the name removed is reserved" in fault.what for fault in wrong.faults())
    assert any("deleted names 'weight'" in fault.what for fault in replace(source, deleted="weight").faults())
    assert any("deleted names 'no'" in fault.what for fault in replace(source, deleted="no").faults())
