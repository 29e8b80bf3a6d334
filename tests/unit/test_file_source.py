"""What is read of a file: values of every type, what is missing, chunk by chunk; which files are meant."""

import gzip
import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_files import sightings_files

from perennial import Column
from perennial.errors import FileRefused
from perennial.shell import file_source
from perennial.shell.lake import TYPES
from perennial.shell.store import open_store

MOMENT = datetime(2026, 1, 31, 10, tzinfo=UTC)
COLUMNS = (
    Column("id", "int64"), Column("seen_at", "timestamp"), Column("country", "string"), Column("tame", "bool"),
    Column("weight", "float64"), Column("note", "string"),
)  # fmt: skip
SOURCE = replace(sightings_files, columns=COLUMNS)
HEADER = "id,seen_at,country,tame,weight,note"
START = "1,2026-01-31T10:00:00Z,Britain"


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a file of that name."""

    def made(data, name="a.csv", source=SOURCE):
        path = tmp_path / "file"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        source = replace(source, format=name.removesuffix(".gz").rsplit(".", 1)[-1])
        return [reading.rows for reading in file_source.tables(path, name, source)]

    return made


@pytest.fixture
def reasons(tmp_path):
    """Why rows of a file cannot be read."""

    def made(data, name="a.csv", source=SOURCE):
        path = tmp_path / "file"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        source = replace(source, format=name.removesuffix(".gz").rsplit(".", 1)[-1])
        return [reason for reading in file_source.tables(path, name, source) for reason in reading.reasons]

    return made


def values(tables, column):
    return [value for table in tables for value in table[column].to_pylist()]


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("id", "7", 7),
        ("id", "-7", -7),
        ("seen_at", "2026-01-31T10:00:00Z", MOMENT),
        ("seen_at", "2026-01-31 12:00:00+02:00", MOMENT),
        ("seen_at", "2026-01-31T10:00:00.000000Z", MOMENT),
        ("tame", "true", True),
        ("tame", "0", False),
        ("tame", "", None),
        ("tame", "NA", None),
        ("weight", "1.5e3", 1500.0),
        ("weight", "", None),
        ("weight", "NaN", None),
        ("weight", '"2"', 2.0),
        ("note", "", None),
        ("note", '""', ""),
        ("note", "NA", "NA"),
        ("note", '"two\nlines, and a ""quote"""', 'two\nlines, and a "quote"'),
        ("note", "größer", "größer"),
    ],
)
def test_a_value_of_a_csv_file(read, column, text, value):
    usual = {"id": "1", "seen_at": "2026-01-31T10:00:00Z", "country": "Britain", "tame": "true", "weight": "1", "note": "x"}
    row = ",".join({**usual, column: text}.values())
    assert values(read(f"{HEADER}\n{row}\n"), column) == [value]


def test_a_csv_file_may_start_with_a_mark_and_end_its_lines_as_windows_does(read):
    tables = read(f"\ufeff{HEADER}\r\n{START},true,1,x\r\n")
    assert (values(tables, "id"), values(tables, "note")) == ([1], ["x"])


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({"weight": 2}, "weight", 2.0),
        ({"weight": None}, "weight", None),
        ({"tame": False}, "tame", False),
        ({"note": "NA"}, "note", "NA"),
        ({"seen_at": "2026-01-31T12:00:00+02:00"}, "seen_at", MOMENT),
        ({"more": [1, {"deep": 2}]}, "id", 1),
    ],
)
def test_a_value_of_a_json_line(read, change, column, value):
    assert values(read(json.dumps(json_row(**change)) + "\n\n", "a.jsonl"), column) == [value]


def json_row(**changes):
    usual = {"id": 1, "seen_at": "2026-01-31T10:00:00Z", "country": "Britain", "tame": True, "weight": 1.5, "note": "x"}
    return {**usual, **changes}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": 1.0}, "id is 1.0, not a whole number"),
        ({"id": True}, "id is True, not a whole number"),
        ({"weight": "1.5"}, "weight is '1.5', not a number"),
        ({"tame": 1}, "tame is 1, not true or false"),
        ({"note": ["x"]}, r"note is \['x'\], not a text"),
        ({"seen_at": 1769853600}, "seen_at is 1769853600, not a moment"),
        ({"seen_at": "31 January"}, "seen_at is '31 January', not a moment"),
    ],
)
def test_a_json_value_of_another_type_makes_its_row_unreadable(read, reasons, change, reason):
    lines = "\n".join([json.dumps(json_row()), json.dumps(json_row(**change))])
    (said,) = reasons(lines, "a.jsonl")
    assert re.match(f"In row 2, {reason}", said)
    assert values(read(lines, "a.jsonl"), "id") == [1]


def test_a_json_line_may_leave_out_what_is_missing(read):
    there, missing = json_row(), json_row()
    del missing["note"]
    assert values(read(f"{json.dumps(missing)}\n{json.dumps(there)}", "a.jsonl"), "note") == [None, "x"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_long_file_comes_in_chunks_that_tell_the_row_of_a_fault(read, reasons, tmp_path, name):
    number = 3 * file_source.CHUNK_ROWS
    rows = pa.table({"id": np.arange(number), **{column.name: column_of(column, number) for column in COLUMNS[1:]}})
    tables = read(as_file(rows, name, tmp_path), name)
    assert len(tables) >= 3
    assert values(tables, "id") == list(range(number))
    weights = np.full(number, 1.5)
    weights[-2] = np.inf
    wrong = rows.set_column(rows.column_names.index("weight"), "weight", pa.array(weights))
    assert reasons(as_file(wrong, name, tmp_path), name) == [f"In row {number - 1}, weight is infinite."]


def column_of(column, number):
    value = {"seen_at": MOMENT, "country": "Britain", "tame": True, "weight": 1.5, "note": "x" * 40}[column.name]
    return pa.array([value] * number, TYPES[column.type])


def as_file(rows, name, folder):
    if name.endswith("parquet"):
        pq.write_table(rows, folder / "made")
        return (folder / "made").read_bytes()
    frame = rows.to_pandas()
    frame["seen_at"] = frame["seen_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    if name.endswith("csv"):
        return frame.to_csv(index=False).encode()
    return "\n".join(json.dumps(row, default=str) for row in frame.to_dict("records")).encode()


@pytest.mark.parametrize(
    ("column", "array", "value"),
    [
        ("id", pa.array([7], pa.uint8()), 7),
        ("weight", pa.array([7], pa.int16()), 7.0),
        ("weight", pa.array([0.5], pa.float32()), 0.5),
        ("weight", pa.array([7], pa.int64()).cast(pa.decimal128(20, 1)), 7.0),
        ("weight", pa.array([None], pa.null()), None),
        ("note", pa.array(["x"], pa.large_string()), "x"),
        ("note", pa.array(["x"]).dictionary_encode(), "x"),
        ("seen_at", pa.array([MOMENT], pa.timestamp("ns", "Asia/Tokyo")), MOMENT),
        ("seen_at", pa.array([MOMENT], pa.timestamp("s", "UTC")), MOMENT),
    ],
)
def test_a_parquet_column_may_be_of_another_width(read, tmp_path, column, array, value):
    assert values(read(parquet_of(tmp_path, column, array), "a.parquet"), column) == [value]


@pytest.mark.parametrize(
    ("column", "array"),
    [
        ("id", pa.array([7.0])),
        ("id", pa.array(["7"])),
        ("weight", pa.array(["7"])),
        ("weight", pa.array([True])),
        ("note", pa.array([7])),
        ("note", pa.array([b"x"])),
        ("seen_at", pa.array(["2026-01-31T10:00:00Z"])),
        ("seen_at", pa.array([MOMENT.replace(tzinfo=None)])),
        ("seen_at", pa.array([MOMENT.date()])),
    ],
)
def test_a_parquet_column_of_another_kind_is_refused(read, tmp_path, column, array):
    with pytest.raises(FileRefused, match=f"other types: {column} is "):
        read(parquet_of(tmp_path, column, array), "a.parquet")


def parquet_of(folder, name, array):
    rows = pa.table({"id": pa.array([1]), **{column.name: column_of(column, 1) for column in COLUMNS[1:]}})
    pq.write_table(rows.set_column(rows.column_names.index(name), name, array), folder / "made")
    return (folder / "made").read_bytes()


def test_text_in_a_parquet_file_that_is_no_utf_8_is_refused(read, tmp_path):
    broken = pa.StringArray.from_buffers(1, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe"))
    with pytest.raises(FileRefused, match="not in UTF-8"):
        read(parquet_of(tmp_path, "note", broken), "a.parquet")


def test_a_row_without_a_column_that_may_not_be_missing_is_unreadable(reasons):
    strict = replace(SOURCE, columns=tuple(replace(c, nullable=c.name != "weight") for c in SOURCE.file_columns))
    data = f"{HEADER}\n{START},true,1,x\n{START},true,,x\n"
    assert reasons(data, source=strict) == ["In row 2, weight is missing."]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), junk=st.binary(max_size=40), cut=st.booleans())
def test_whatever_is_done_to_a_file_it_is_read_or_refused(read, tmp_path, ending, where, junk, cut):
    rows = pa.table({"id": np.arange(50), **{column.name: column_of(column, 50) for column in COLUMNS[1:]}})
    data = as_file(rows, ending.removesuffix(".gz"), tmp_path)
    data = gzip.compress(data) if ending.endswith("gz") else data
    place = int(where * len(data))
    try:
        tables = read(data[:place] + junk + (b"" if cut else data[place + len(junk) :]), f"a.{ending}")
    except FileRefused as error:
        reason = str(error)
    else:
        reason = "read"
        schema = [(column.name, TYPES[column.type]) for column in SOURCE.file_columns]
        assert [[(field.name, field.type) for field in table.schema] for table in tables] == [schema] * len(tables)
        assert None not in values(tables, "id")
    assert len(reason) < 500
    assert reason.isprintable()


@pytest.fixture
def names(tmp_path):
    """Which of the files of these names are meant, in order of their time."""

    def made(*names, **changes):
        store = open_store(tmp_path.as_uri())
        for number, name in enumerate(names):
            store.put(f"in/{name}", b"")
            os.utime(tmp_path / "in" / name, (number, number))
        source = replace(SOURCE, **changes)
        return [entry.key.removeprefix("in/") for entry in file_source.look(store, source)[0]]

    return made


def test_files_are_looked_at_in_the_order_in_which_they_were_written(names):
    assert names("b.csv", "2026/c.csv", "a.csv.gz") == ["b.csv", "2026/c.csv", "a.csv.gz"]


@pytest.mark.parametrize("name", [".a.csv", "_a.csv", ".b/a.csv", "_temporary/0/a.csv", "a.csv.tmp", "a.csv.part", "a\nb.csv"])
def test_what_is_hidden_or_temporary_is_not_meant(names, name):
    assert names(name, "a.csv", pattern=r"(?s).*") == ["a.csv"]


def test_what_is_meant_may_be_said_by_a_pattern(names):
    assert names("EWR/a.csv", "ewr/a.csv", "a.csv", pattern=r"(?P<country>[A-Z]{3})/.*") == ["EWR/a.csv"]


def test_a_name_that_is_no_text_is_not_meant(names, tmp_path):
    (tmp_path / "in").mkdir()
    with open(os.fsencode(tmp_path) + b"/in/\xff.csv", "wb"):
        assert names("a.csv") == ["a.csv"]
