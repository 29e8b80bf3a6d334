"""A value becomes what was written, or its row is set apart with column, value and reason."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perennial import Column
from perennial.shell import values
from perennial.shell.values import NO_VALUE, Raw, reading, typed

MOMENT = datetime(2026, 1, 31, 10, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def read(kind, *texts, no_value=()):
    """What becomes of texts in a column of that type: the values, and what is wrong with which."""
    made, wrong = typed(pa.array(texts, pa.string()), Column("x", kind), no_value)
    return made.to_pylist(), {what: places.tolist() for what, places in wrong.items()}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int64", "-7", -7),
        ("int64", "9223372036854775807", 2**63 - 1),
        ("int64", "3.00", 3),  # numeric(10, 2)
        ("float64", "12.70", 12.7),
        ("float64", "-1e-3", -0.001),
        ("float64", "NaN", None),
        ("bool", "true", True),
        ("bool", "false", False),
        ("timestamp", "2026-01-31 10:00:00+00", MOMENT),
        ("timestamp", "2026-01-31 10:00:00.000001+00", MOMENT + MICROSECOND),
        ("timestamp", "2026-01-31T10:00:00.000001000Z", MOMENT + MICROSECOND),
        ("timestamp", "2026-01-31T10:00:00.0000000Z", MOMENT),
        ("timestamp", "9999-12-31 23:59:59.999999+00", datetime.max.replace(tzinfo=UTC)),
        ("timestamp", "0001-01-01T00:00:00Z", datetime.min.replace(tzinfo=UTC)),
        ("string", "", ""),
        ("string", "größer", "größer"),
    ],
)
def test_a_text_becomes_the_value_that_it_says(kind, text, value):
    assert read(kind, text) == ([value], {})


@pytest.mark.parametrize(
    ("kind", "text", "what"),
    [
        ("int64", "12.70", "not a whole number"),
        ("int64", "0.49", "not a whole number"),
        ("int64", "0x10", "not a whole number"),
        ("int64", "NaN", "not a whole number"),
        ("int64", "9223372036854775808", "not a whole number"),
        ("int64", "true", "not a whole number"),
        ("int64", "1 day", "not a whole number"),
        ("int64", "$1.00", "not a whole number"),
        ("float64", "3 cm", "not a number"),
        ("float64", "nan(1)", "not a number"),
        ("float64", "Infinity", "infinite"),
        ("float64", "1e400", "infinite"),
        ("bool", "2", "not true or false"),
        ("timestamp", "2026-01-31 10:00:00", "not a moment with its zone, such as 2026-01-31T10:00:00Z"),
        ("timestamp", "2026-01-31T10:00:00.0000001Z", "finer than a microsecond"),
        ("timestamp", "20000-01-01 00:00:00+00", "outside of the years 1 to 9999"),
        ("timestamp", "0044-03-15 00:00:00+00 BC", "outside of the years 1 to 9999"),
        ("timestamp", "infinity", "outside of the years 1 to 9999"),
        ("timestamp", "-infinity", "outside of the years 1 to 9999"),
        ("timestamp", "9999-12-31T23:59:59-05:00", "outside of the years 1 to 9999"),
        ("timestamp", "0001-01-01T00:00:00+01:00", "outside of the years 1 to 9999"),
        ("string", "a\0b", "with a NUL character"),
        ("string", "x" * (values.LONGEST_TEXT + 1), "longer than 1,048,576 bytes"),
    ],
)
def test_a_text_that_is_no_such_value_is_wrong_where_it_stands_and_the_others_are_read(kind, text, what):
    good = {"int64": "1", "float64": "1", "bool": "1", "timestamp": "2026-01-31T10:00:00Z", "string": "1"}[kind]
    made, wrong = read(kind, good, text, None, good)
    assert wrong == {what: [1]}
    assert [value is None for value in made] == [False, True, True, False]


def test_bytes_that_are_no_utf_8_are_wrong_and_the_others_are_read():
    made, wrong = typed(pa.array([b"caf\xe9", "café".encode(), b""], pa.binary()), Column("x", "string"))
    assert (made.to_pylist(), {what: list(places) for what, places in wrong.items()}) == (
        [None, "café", ""], {"not in UTF-8": [0]},
    )  # fmt: skip


def test_words_for_nothing_are_missing_in_files_but_in_texts():
    assert read("int64", *NO_VALUE, no_value=NO_VALUE) == ([None] * len(NO_VALUE), {})
    assert read("string", "NA", no_value=NO_VALUE) == (["NA"], {})


@pytest.mark.parametrize(
    ("array", "column", "values_read", "wrong"),
    [
        (pa.array([1, 1_000], pa.timestamp("ns", "UTC")), "timestamp", 1, {"finer than a microsecond": [0]}),
        (pa.array([0, 2**62], pa.timestamp("us", "UTC")), "timestamp", 1, {"outside of the years 1 to 9999": [1]}),
        (pa.array([0, 2**60], pa.timestamp("s", "UTC")), "timestamp", 1, {"outside of the years 1 to 9999": [1]}),
        (pa.array([1, 2**63], pa.uint64()), "int64", 1, {"not a whole number": [1]}),
        (pa.array([1.0, np.inf, np.nan]), "float64", 1, {"infinite": [1]}),
        (pa.array([1, 2**53 + 1]), "float64", 1, {"not a number": [1]}),
    ],
)
def test_a_value_of_another_width_is_read_where_it_is_the_same(array, column, values_read, wrong):
    made, found = typed(array, Column("x", column))
    assert len(made) - made.null_count == values_read
    assert {what: places.tolist() for what, places in found.items()} == wrong


def test_a_chunk_in_which_every_second_value_is_wrong_is_read_soon():
    texts = ["1", "1.5"] * 20_000
    made, wrong = typed(pa.array(texts), Column("x", "int64"))
    assert (made.null_count, len(wrong["not a whole number"])) == (20_000, 20_000)


def test_an_unreadable_row_is_kept_as_it_stood_with_every_flaw():
    columns = (Column("id", "int64"), Column("at", "timestamp"), Column("note", "string"))
    raw = Raw(
        columns={"id": pa.array(["1", "x1", None]), "at": pa.array(["2026-01-31T10:00:00Z", "soon", "2026-01-31T10:00:00Z"]),
                 "note": pa.array([b"", b"\xff\0", b"z"])},
        numbers=np.array([4, 5, 7]),
    )  # fmt: skip
    made = reading(raw, columns, required=["id"])
    assert (made.rows["id"].to_pylist(), made.numbers.tolist(), made.unreadable_numbers.tolist()) == ([1], [4], [5, 7])
    assert made.unreadable.to_pylist()[0] == {"id": "x1", "at": "soon", "note": "\\xff\0"}
    assert made.kinds[1] == ["id: missing"]
    assert made.reasons == [
        "In row 5, id is 'x1', not a whole number; at is 'soon', not a moment with its zone, such as 2026-01-31T10:00:00Z; "
        r"note is '\\xff\x00', not in UTF-8.",
        "In row 7, id is missing.",
    ]  # fmt: skip


READ = {
    "int64": int,
    "float64": float,
    "bool": lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
}
NUMBERS = st.one_of(
    st.integers().map(str), st.floats().map(repr), st.decimals().map(str), st.from_regex(r"\A-?\d{1,25}(\.\d*)?\Z")
)


@pytest.mark.parametrize("kind", READ)
@given(
    texts=st.lists(st.one_of(NUMBERS, st.text(max_size=6), st.sampled_from(["true", "0", "nan", "0x1f", "1_0"])), min_size=1)
)
@example(texts=["0x10", "1", "١"])
def test_what_is_read_is_what_python_reads(kind, texts):
    made, wrong = read(kind, *texts)
    bad = {place for places in wrong.values() for place in places}
    for place, (text, value) in enumerate(zip(texts, made, strict=True)):
        if place in bad:
            assert value is None
        elif value is None:
            assert math.isnan(float(text))
        else:
            assert value == READ[kind](text.removesuffix(".0") if kind != "int64" else text.split(".")[0])
            assert kind != "int64" or float(text) == pytest.approx(value)


@given(
    moments=st.lists(st.datetimes(timezones=st.timezones(no_cache=False) | st.just(UTC)), min_size=1, max_size=5),
    digits=st.sampled_from(["", "0", "000", "5"]),
)
def test_a_moment_is_the_moment_that_python_reads_or_wrong(moments, digits):
    texts = [f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}{digits}+05:30" for moment in moments]
    made, wrong = read("timestamp", *texts)
    for text, value in zip(texts, made, strict=True):
        assert value is None or value == datetime.fromisoformat(text)
    assert ("finer than a microsecond" in wrong) == (digits == "5")
    assert set(wrong) <= {"finer than a microsecond", "outside of the years 1 to 9999"}
