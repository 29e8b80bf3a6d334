"""Rule 7: a value that cannot be read costs its row, and nothing else; the row is kept aside as it stood."""

import gzip
import json
import logging
import time
from dataclasses import replace

import pandas as pd
import pytest
from test_rule_6_files import GOOD, GOOD_ROWS, HEADER, Inbox, csv, jsonl, line, parquet, rows_table
from toolbox import edit_source, execute, is_landed_exactly_once, landed_changes
from toy_files import sightings_files

from perennial.core.trials import REASON, REJECTED_BY
from perennial.errors import RequestError
from perennial.shell.lake import open_batch
from perennial.shell.store import open_store
from perennial.spec import Checks, Column
from perennial.steps.audit import examine
from perennial.steps.quarantine import accept_batch, extract_again, look, retract_batch, validate_again

ROW = "INSERT INTO sightings VALUES (%s, now(), %s, %s, 1, %s)"
NOON = "2026-01-31T12:00:00Z"
LOOSE = (
    "ALTER TABLE sightings DROP CONSTRAINT IF EXISTS sightings_pkey",
    "ALTER TABLE sightings ALTER id DROP NOT NULL",
    "ALTER TABLE sightings ALTER {column} TYPE {kind} USING {value}",
)


@pytest.fixture
def inbox(zoo, tmp_path):
    """A zoo whose sightings come in files, in a folder."""
    store = open_store((tmp_path / "drop").as_uri())
    zoo.resources = replace(zoo.resources, source_store=lambda name: store)
    zoo.catalog = replace(zoo.catalog, sources={"sightings": sightings_files})
    return Inbox(zoo, store)


def kept(zoo):
    """Every row that is kept aside as unreadable, country by country."""
    found = zoo.sql("SELECT unreadable_key, unreadable_sha256 FROM batches WHERE unreadable_rows > 0 ORDER BY country, seq")
    return [row for key, sha256 in found for row in open_batch(zoo.resources.store, key, sha256).read().to_pylist()]


def batches(zoo):
    rows = zoo.sql("SELECT country, seq, state, rows, unreadable_rows FROM batches ORDER BY country, seq")
    return [tuple(row) for row in rows]


def is_sound(zoo):
    findings = examine(zoo.resources, zoo.catalog)
    assert findings.unseen == []
    return findings.violations == []


def few():
    """An expectation that holds."""
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToNotBeNull(column="country")]


def loosen(zoo, column, kind):
    """Make a column of the table one of another type, with its values where that has them."""
    value = "NULL" if kind in ("interval", "boolean", "money") else f"{column}::text::{kind}"
    for statement in LOOSE:
        execute(zoo.shop, statement.format(column=column, kind=kind, value=value))


@pytest.mark.parametrize(
    ("column", "kind", "value", "flaw"),
    [
        ("weight", "text", "3 cm", "weight: not a number"),
        ("weight", "interval", "1 day", "weight: not a number"),
        ("weight", "boolean", "true", "weight: not a number"),
        ("weight", "money", "$1,000.00", "weight: not a number"),
        ("weight", "numeric", "Infinity", "weight: infinite"),
        ("id", "numeric", "12.70", "id: not a whole number"),
        ("id", "numeric", "NaN", "id: not a whole number"),
        ("id", "numeric", "9223372036854775808", "id: not a whole number"),
        ("seen_at", "timestamptz", "20000-01-01", "seen_at: outside of the years 1 to 9999"),
        ("seen_at", "timestamptz", "0044-03-15 BC", "seen_at: outside of the years 1 to 9999"),
        ("seen_at", "timestamptz", "infinity", "seen_at: outside of the years 1 to 9999"),
    ],
)
def test_a_value_of_a_table_that_cannot_be_read_costs_its_row(zoo, column, kind, value, flaw):
    edit_source(zoo, expectations=few)  # weights may be missing
    zoo.see("Britain", range(3))
    zoo.see("France", range(3))
    loosen(zoo, column, kind)
    execute(zoo.shop, f"UPDATE sightings SET {column} = %s WHERE ctid = (SELECT min(ctid) FROM sightings)", value)
    zoo.ingest()
    assert sorted(row[3:] for row in batches(zoo)) == [(59, 1), (60, 0)]
    assert {row[2] for row in batches(zoo)} == {"accepted"}
    (row,) = kept(zoo)
    assert row[REJECTED_BY] == [flaw]
    assert row[REASON].startswith(f"{column} is ")


def test_a_value_is_never_rounded(zoo):
    loosen(zoo, "id", "numeric(10, 2)")
    for number in ("1.10", "1.40", "12.70", "3.00", *map(str, range(100, 160))):
        execute(zoo.shop, ROW, number, NOON, "Britain", 1)
    zoo.ingest()
    assert set(landed_changes(zoo)["id"]) == {3, *range(100, 160)}
    assert sorted(row["id"] for row in kept(zoo)) == ["1.10", "1.40", "12.70"]


def test_a_text_is_what_was_written_with_quotes_line_ends_and_nothing(zoo):
    edit_source(zoo, columns=(*zoo.catalog.source("sightings").columns, Column("note", "string")))
    execute(zoo.shop, "ALTER TABLE sightings ADD note text")
    texts = ["", None, "\\.", '"', "a\r\nb", ",", "\\N", "é😀", "NULL", "NaN", "\x01", " x "]
    for number, text in enumerate(texts):
        execute(zoo.shop, "INSERT INTO sightings VALUES (%s, now(), %s, 'Britain', 1, 1, %s)", number, NOON, text)
    zoo.ingest()
    landed = landed_changes(zoo).sort_values("id")["note"]
    assert [None if pd.isna(text) else text for text in landed] == texts
    assert is_landed_exactly_once(zoo)


def test_bytes_that_are_no_text_cost_their_row(zoo, postgres):
    execute(postgres.dsn("postgres"), "CREATE DATABASE plain TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        zoo.resources = replace(zoo.resources, source_dsn=lambda name: postgres.dsn("plain"))
        zoo.shop = postgres.dsn("plain")
        execute(zoo.shop, "CREATE TABLE sightings (id int8, changed_at timestamptz DEFAULT now(), seen_at timestamptz, "
                          "country text, length float8, weight float8)")  # fmt: skip
        zoo.see("Britain", range(3))
        execute(zoo.shop, "INSERT INTO sightings VALUES (9001, now(), now(), convert_from('\\x4272e974', 'SQL_ASCII'), 1, 1)")
        zoo.ingest()
    finally:
        execute(postgres.dsn("postgres"), "DROP DATABASE plain")
    assert batches(zoo) == [("GB", 1, "accepted", 60, 0), ("ZZ", 1, "quarantined", 0, 1)]
    assert (kept(zoo)[0]["country"], kept(zoo)[0][REJECTED_BY]) == ("Br\\xe9t", ["country: not in UTF-8"])


def test_a_text_that_is_longer_than_a_row_may_be_costs_its_row_whatever_its_length(zoo):
    edit_source(zoo, columns=(*zoo.catalog.source("sightings").columns, Column("note", "string")))
    execute(zoo.shop, "ALTER TABLE sightings ADD note text")
    zoo.see("Britain", range(3))
    execute(zoo.shop, "INSERT INTO sightings SELECT 9001, now(), now(), 'Britain', 1, 1, repeat('é', 30000000)")
    zoo.ingest()
    assert batches(zoo) == [("GB", 1, "accepted", 60, 1)]
    assert kept(zoo)[0][REASON] == "note is longer than 1,048,576 bytes."


def test_a_name_with_a_percent_sign_is_a_name(zoo):
    zoo.see("Britain", range(3))
    execute(zoo.shop, 'ALTER TABLE sightings RENAME COLUMN weight TO "weight %%s (100%%)"')
    execute(zoo.shop, 'ALTER TABLE sightings RENAME TO "sights %%d"')
    columns = [
        replace(c, name="weight %s (100%)") if c.name == "weight" else c for c in zoo.catalog.source("sightings").columns
    ]
    edit_source(zoo, columns=tuple(columns), table="sights %d", expectations=few)
    zoo.ingest()
    assert batches(zoo)[0][3:] == (60, 0)


def test_unreadable_rows_count_towards_the_share_that_may_be_rejected(zoo):
    edit_source(zoo, checks=Checks(max_rejected=0.05))
    zoo.see("Britain", range(3))
    zoo.see("France", range(3))
    loosen(zoo, "weight", "text")
    execute(zoo.shop, "UPDATE sightings SET weight = CASE WHEN country = 'France' AND id %% 2 = 0 THEN 'heavy' ELSE '1' END")
    zoo.ingest()
    assert batches(zoo) == [("FR", 1, "quarantined", 30, 30), ("GB", 1, "accepted", 60, 0)]
    (reason,) = zoo.sql("SELECT reason FROM batches WHERE country = 'FR'")[0]
    assert reason == "30 of 60 rows are rejected, more than 5%: weight: not a number 30"
    accept_batch(zoo.resources, "sightings", "FR", 1, "ann", "the others are right")
    assert is_sound(zoo)


def test_a_batch_without_a_readable_row_is_held_and_cannot_be_accepted_until_its_rows_are_read_again(zoo):
    zoo.see("Britain", range(3))
    loosen(zoo, "weight", "text")
    execute(zoo.shop, "UPDATE sightings SET weight = 'heavy'")
    zoo.ingest()
    assert batches(zoo) == [("GB", 1, "quarantined", 0, 60)]
    assert is_sound(zoo)
    with pytest.raises(RequestError, match="Every row of batch"):
        accept_batch(zoo.resources, "sightings", "GB", 1, "ann", "looks fine")
    execute(zoo.shop, "UPDATE sightings SET weight = '5'")
    said = extract_again(zoo.resources, zoo.catalog.source("sightings"), "GB", 1, "ann", "weights are numbers")
    assert said["accepted"] == ["GB 2"]
    assert batches(zoo) == [("GB", 1, "retracted", 0, 60), ("GB", 2, "accepted", 60, 0)]
    assert is_landed_exactly_once(zoo)
    assert is_sound(zoo)


def test_an_unreadable_row_stays_its_batchs_when_another_one_is_extracted_again(zoo):
    zoo.see("Britain", range(3))
    zoo.see("France", range(3))
    loosen(zoo, "weight", "text")
    execute(zoo.shop, "UPDATE sightings SET weight = CASE WHEN id IN (1, 61) THEN 'heavy' ELSE '1' END")
    zoo.ingest()
    execute(zoo.shop, "UPDATE sightings SET weight = '5' WHERE id IN (1, 61)")
    for country in ("GB", "FR"):
        retract_batch(zoo.resources, "sightings", country, 1, "ann", "weights were words")
        extract_again(zoo.resources, zoo.catalog.source("sightings"), country, 1, "ann", "weights are numbers")
    assert [row[1:] for row in batches(zoo)] == [(1, "retracted", 59, 1), (2, "accepted", 60, 0)] * 2
    assert is_sound(zoo)


def test_rows_that_only_the_spec_could_not_read_are_read_when_they_are_validated_again(zoo):
    zoo.see("Britain", range(3))
    loosen(zoo, "length", "text")
    execute(zoo.shop, "UPDATE sightings SET length = CASE WHEN id %% 2 = 0 THEN 'long' ELSE '1' END")
    zoo.ingest()
    assert batches(zoo) == [("GB", 1, "quarantined", 30, 30)]
    source = zoo.catalog.source("sightings")
    assert validate_again(zoo.resources, source, "ann", "as it is")["quarantined"] == ["GB 1"]
    edit_source(zoo, columns=tuple(c for c in source.columns if c.name != "length"))
    assert validate_again(zoo.resources, zoo.catalog.source("sightings"), "ann", "length is no number") == {
        "accepted": ["GB 2"], "quarantined": [],
    }  # fmt: skip
    assert batches(zoo)[1] == ("GB", 2, "accepted", 60, 0)
    assert is_sound(zoo)


def test_a_person_sees_unreadable_rows_with_column_value_and_reason(zoo, caplog):
    zoo.see("Britain", range(3))
    loosen(zoo, "weight", "text")
    execute(zoo.shop, "UPDATE sightings SET weight = CASE id WHEN 7 THEN '3 cm' ELSE '1' END")
    zoo.ingest()
    with caplog.at_level(logging.INFO):
        assert look(zoo.resources, zoo.catalog.source("sightings"))["with rejected rows"] == ["GB 1"]
    assert "1 rows that cannot be read in" in caplog.text
    assert "weight: not a number (1)" in caplog.text
    assert "| weight is '3 cm', not a number." in caplog.text


def test_an_audit_finds_unreadable_rows_that_are_not_kept(zoo):
    zoo.see("Britain", range(3))
    loosen(zoo, "weight", "text")
    execute(zoo.shop, "UPDATE sightings SET weight = CASE id WHEN 7 THEN '3 cm' ELSE '1' END")
    zoo.ingest()
    assert is_sound(zoo)
    (key,) = zoo.sql("SELECT unreadable_key FROM batches")[0]
    zoo.resources.store.put(key, b"other bytes")
    found = examine(zoo.resources, zoo.catalog).violations
    assert [each.rule for each in found if "its unreadable rows are not kept" in each.what] == [7]


LAST_CSV = b"400,2026-01-01T10:00:00Z,Britain"
LAST_JSON = jsonl(*GOOD_ROWS, (400, 1))[:-1].replace(b"%", b"%%").rpartition(b"Britain")
LAST_JSON = LAST_JSON[0] + b"Britain%b" + LAST_JSON[2] + b"\n"
OF_FILES = {
    "csv": {
        "a word for a number": (csv(*GOOD, line(400, "much")), "In row 400, weight is 'much', not a number."),
        "no moment": (csv(*GOOD, "400,,Britain,1,2"), "In row 400, seen_at is missing."),
        "no key": (csv(*GOOD, ",2026-01-01T10:00:00Z,Britain,1,2"), "In row 400, id is missing."),
        "an infinity": (csv(*GOOD, line(400, "-inf")), "In row 400, weight is infinite."),
        "a hexadecimal number": (csv(*GOOD, line("0x10", 1)), "In row 400, id is '0x10', not a whole number."),
        "a year beyond time": (csv(*GOOD, "400,9999-12-31T23:59:59-05:00,Britain,1,2"), "outside of the years"),
        "a year before time": (csv(*GOOD, "400,0001-01-01T00:00:00+01:00,Britain,1,2"), "outside of the years"),
        "digits that would be cut": (csv(*GOOD, "400,2026-01-01T00:00:00.1234567Z,Britain,1,2"), "finer than a microsecond"),
        "another encoding": (csv(*GOOD, line(400, 1)).replace(LAST_CSV, LAST_CSV + b"\xe9"), "not in UTF-8"),
        "too many fields": (csv(*GOOD, "1,2,3,4,5,6"), "Row 400 has 6 fields instead of 5: '1,2,3,4,5,6'."),
        "too few fields": (csv(*GOOD, "1,2"), "Row 400 has 2 fields instead of 5: '1,2'."),
    },
    "jsonl": {
        "a number as text": (jsonl(*GOOD_ROWS, (400, "10")), "In row 400, weight is '10', not a number."),
        "a number that is too large": (jsonl(*GOOD_ROWS, (2**70, 1)), "a number that is too large."),
        "no JSON": (jsonl(*GOOD_ROWS) + b"id: 400\n", "Line 400 is no JSON"),
        "no object": (jsonl(*GOOD_ROWS) + b"[400]\n", "Line 400 is no JSON object."),
        "a zero character": (LAST_JSON % rb"\u0000", "with a NUL character"),
        "half a character": (LAST_JSON % rb"\ud800", "not in UTF-8"),
        "a line of 3 MB": (jsonl(*GOOD_ROWS) + b'{"id": "' + b"x" * 3_000_000 + b'"}\n', "Line 400 is longer than"),
    },
    "parquet": {
        "an infinity": (parquet(rows_table(*GOOD_ROWS, (400, float("inf")))), "In row 400, weight is infinite."),
        "a key that is missing": (parquet(rows_table(*GOOD_ROWS, (None, 20))), "In row 400, id is missing."),
        "a key that is too large": (parquet(rows_table(*GOOD_ROWS, (2**63, 10), ids="uint64")),
                                    "In row 400, id is 9223372036854775808, not a whole number."),
    },
}  # fmt: skip


@pytest.mark.parametrize(("ending", "how"), [(ending, how) for ending, cases in OF_FILES.items() for how in cases])
def test_a_row_of_a_file_that_cannot_be_read_costs_nothing_else_until_a_good_file_replaces_it(inbox, ending, how):
    data, reason = OF_FILES[ending][how]
    inbox.edit(format=ending)
    inbox.put(f"a.{ending}", data)
    inbox.ingest()
    assert set(inbox.truth()) == set(range(1, 400))
    (row,) = kept(inbox.zoo)
    assert reason in row[REASON]
    assert inbox.zoo.sql("SELECT state, rows, unreadable FROM files") == [("landed", 399, 1)]
    assert inbox.is_sound()
    good = {"csv": csv(*GOOD), "jsonl": jsonl(*GOOD_ROWS), "parquet": parquet(rows_table(*GOOD_ROWS))}
    inbox.put(f"a.{ending}", good[ending] + (b"\n" if ending != "parquet" else b""))
    inbox.ingest()
    assert inbox.zoo.sql("SELECT unreadable, removed FROM files WHERE revision = 2") == [(0, 0)]
    assert inbox.is_sound()


def test_a_row_that_became_unreadable_leaves_its_former_revision_in_force(inbox):
    inbox.drop("a.csv", *((number, 10) for number in range(1, 20)))
    inbox.ingest()
    time.sleep(0.01)
    inbox.drop("a.csv", (1, "much"), *((number, 11) for number in range(3, 20)))
    inbox.ingest()
    assert inbox.truth() == {1: 10, **dict.fromkeys(range(3, 20), 11)}
    assert inbox.zoo.sql("SELECT rows, unreadable, removed FROM files WHERE revision = 2") == [(17, 1, 1)]
    assert inbox.is_sound()


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_file_that_is_cut_within_a_quote_is_refused(inbox, name):
    data = csv(*GOOD, '400,2026-01-01T10:00:00Z,Britain,1,"1234"')[:-3]
    inbox.put(name, gzip.compress(data) if name.endswith("gz") else data)
    assert inbox.land() is None
    assert "it ends within an open quote" in inbox.reason(name)


def test_an_ending_in_capitals_is_an_ending(inbox):
    inbox.put("A.CSV", csv(line(1, 10)))
    inbox.put("B.CSV.GZ", gzip.compress(csv(line(2, 20))))
    inbox.ingest()
    assert inbox.truth() == {1: 10, 2: 20}


def test_line_ends_of_windows_within_texts_stay_wherever_a_file_is_read_in_pieces(inbox):
    inbox.edit(columns=(*inbox.source.file_columns, Column("note", "string")))
    texts = [f"{'x' * (number % 97)}\r\ny" for number in range(60_000)]
    rows = [f'{line(number, 1)},"{text}"' for number, text in enumerate(texts)]
    inbox.put("a.csv", "\r\n".join([f"{HEADER},note", *rows, ""]).encode())
    inbox.ingest()
    assert landed_changes(inbox.zoo).sort_values("id")["note"].tolist() == texts


def test_a_text_that_the_registry_cannot_hold_does_not_hold_its_country(inbox):
    good = [json.dumps({"id": n, "seen_at": NOON, "country": "Britain", "length": 1, "weight": 1}) for n in range(100)]
    bad = json.dumps({"id": 1000, "seen_at": NOON, "country": "Brit\0ain", "length": 1, "weight": 1})
    inbox.edit(format="jsonl")
    inbox.put("a.jsonl", "\n".join([*good, bad, ""]).encode())
    inbox.ingest()
    assert batches(inbox.zoo) == [("GB", 1, "accepted", 100, 0), ("ZZ", 1, "quarantined", 0, 1)]
    assert "country: with a NUL character (1)" in inbox.zoo.sql("SELECT reason FROM batches WHERE country = 'ZZ'")[0][0]
