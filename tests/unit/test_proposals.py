"""What a new source is guessed to be, by the names and values of what is there."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perennial.core.proposals import propose
from perennial.errors import FileRefused, RequestError
from perennial.proposal import Found, FoundColumn, Wanted
from perennial.shell.looks import look_at_file
from perennial.shell.store import FolderStore

DAYS = pd.date_range("2026-01-01", periods=200, freq="6h", tz="UTC")
KINDS = {"int64": "int64", "float64": "float64", "object": "string", "str": "string", "bool": "bool"}


def rides(**changes):
    """Rides of two cities; ``changes`` adds columns, or takes away those that are None."""
    columns = {
        "ride_id": range(200),
        "started_at": DAYS,
        "city": ["Oslo", "Rome"] * 100,
        "fare": [5.0 + number / 10 for number in range(200)],
    } | changes
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def found(rows, **facts):
    def kind(values):
        return "timestamp" if isinstance(values.dtype, pd.DatetimeTZDtype) else KINDS[str(values.dtype)]

    columns = tuple(FoundColumn(name=name, type=kind(rows[name]), kind="k") for name in rows)
    return Found(columns=columns, rows=rows, seen="200 rows", **facts)


def roles(proposal):
    return proposal.key, proposal.event_time, proposal.changed_at, proposal.country


def test_files_are_known_by_id_time_and_place():
    assert roles(propose(found(rides()), Wanted())) == (("ride_id",), "started_at", "", "city")


def test_a_tables_own_key_goes_before_a_column_that_happens_to_differ():
    rows = rides(line=range(200), updated_at=DAYS)
    proposal = propose(found(rows, keys=(("line", "updated_at"),), has_revisions=True), Wanted())
    assert roles(proposal) == (("line",), "started_at", "updated_at", "city")
    assert "updated_at parts its revisions" in proposal.notes["key"]


def test_several_columns_tell_rows_apart_where_none_does_alone():
    rows = rides(ride_id=None, started_at=DAYS.repeat(2)[:200])
    assert propose(found(rows), Wanted()).key == ("started_at", "city")


def test_a_table_with_one_time_is_taken_for_one_that_only_grows_and_says_so():
    proposal = propose(found(rides(), has_revisions=True), Wanted())
    assert proposal.changed_at == proposal.event_time == "started_at"
    assert "never changed" in proposal.notes["changed_at"]


def test_of_several_times_none_is_taken_for_the_last_change_by_chance():
    rows = rides(ended_at=DAYS)
    with pytest.raises(RequestError, match=r"CHANGED_AT=…, of: started_at, ended_at"):
        propose(found(rows, has_revisions=True), Wanted())
    assert propose(found(rows, has_revisions=True), Wanted(changed_at="ended_at")).changed_at == "ended_at"


def test_all_that_cannot_be_guessed_is_said_at_once():
    rows = pd.DataFrame({"note": ["a", "b", "c", "d", "e"] * 40, "fare": [1.5] * 200}).assign(
        note=lambda each: each.note.str[:1]
    )
    rows["note"] = [f"text {number % 190}" for number in range(200)]
    with pytest.raises(RequestError) as refused:
        propose(found(rows), Wanted())
    said = str(refused.value)
    assert all(part in said for part in ("No column says when a row happened", "COUNTRY=…", "KEY=a,b"))


def test_what_was_said_is_not_guessed_and_has_to_be_there():
    wanted = Wanted(key=("fare",), country="city", event_time="started_at")
    assert propose(found(rides()), wanted).key == ("fare",)
    with pytest.raises(RequestError, match=r"There is no column town\. There are: ride_id, started_at, city, fare\."):
        propose(found(rides()), Wanted(country="town"))


def test_names_of_countries_get_their_codes_and_others_are_made_of_their_letters():
    places = ["United Kingdom", "france", "GB", "new york", "Zürich", "ZZ", "a b", "a-b", "a/b"]
    rows = rides(city=(places * 23)[:200])
    codes = propose(found(rows), Wanted()).countries
    assert (codes["United Kingdom"], codes["france"]) == ("GB", "FR")
    assert codes["GB"] == "GB"
    assert (codes["new york"], codes["Zürich"], codes["ZZ"]) == ("NEW_YORK", "Z_RICH", "C_ZZ")
    assert len({codes[value] for value in ("a b", "a-b", "a/b")}) == 3


def test_bounds_lie_far_around_what_was_seen_and_ids_have_none():
    rows = rides(change=[-3.0, 4.0] * 100, temperature=[60.0, 90.0] * 100, seats=[1, 4] * 100, driver_id=[7, 8] * 100)
    bounds = {column.name: (column.min_value, column.max_value) for column, _ in propose(found(rows), Wanted()).columns}
    assert bounds["change"] == (-40, 40)
    assert bounds["temperature"] == (-900, 900)
    assert bounds["seats"] == (-40, 40)
    assert bounds["driver_id"] == bounds["ride_id"] == bounds["started_at"] == (None, None)


def test_a_mark_of_deleted_rows_is_one_of_tables():
    rows = rides(updated_at=DAYS, is_deleted=[False] * 200)
    assert propose(found(rows, has_revisions=True), Wanted()).deleted == "is_deleted"
    assert propose(found(rows), Wanted()).deleted == ""


@pytest.fixture
def looked(tmp_path):
    """Looks at a file of these bytes; returns what was found."""

    def look(name, data):
        path = tmp_path / "drop" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return look_at_file(FolderStore(tmp_path), f"drop/{name}")

    return look


def types(found):
    return {column.name: column.type for column in found.columns}


CSV = """id,zip,ratio,count,flag,at,day,note
1,0101,0.5,3,true,2026-01-01T00:00:00Z,2026-01-01,a
2,0202,7,,FALSE,2026-01-01T01:00:00+02:00,2026-01-02,
3,0303,NA,4,true,2026-01-02 00:00:00Z,2026-01-03,"x, y"
"""


@pytest.mark.parametrize("pack", [lambda data: ("a.csv", data), lambda data: ("a.csv.gz", gzip.compress(data))], ids=["", "gz"])
def test_types_of_a_csv_file_are_those_that_hold_all_of_its_values(looked, pack):
    seen = looked(*pack(CSV.encode()))
    assert types(seen) == {
        "id": "int64", "zip": "string", "ratio": "float64", "count": "int64", "flag": "bool", "at": "timestamp",
        "day": "string", "note": "string",
    }  # fmt: skip
    assert "without its zone" in next(column.note for column in seen.columns if column.name == "day")
    assert seen.rows["count"].tolist()[0] == 3
    assert seen.rows["count"].isna().tolist() == [False, True, False]


def test_a_few_values_that_are_no_numbers_do_not_make_a_column_text(looked):
    lines = [f"{number},{number}.5" for number in range(199)]
    (ident, price) = looked("a.csv", "\n".join(["id,price", *lines, "200,broken\n"]).encode()).columns
    assert (ident.type, price.type) == ("int64", "float64")
    assert price.note == "1 of 200 values are none: their rows will be kept aside"


def test_moments_without_a_zone_are_named_with_what_to_write(looked):
    seen = looked("a.csv", b"id,at,city\n" + b"".join(b"%d,2026-01-01 00:00,Oslo\n" % number for number in range(20)))
    with pytest.raises(RequestError, match=r"No column is a moment with its zone: at: .* write it as 2026-01-31T10:00:00Z"):
        propose(seen, Wanted())


def test_types_of_json_lines_are_those_of_their_values(looked):
    rows = [{"id": 1, "at": "2026-01-01T00:00:00Z", "x": 1, "deep": {"a": 1}, "text": "a"}, {"id": 2, "x": 1.5, "flag": True}]
    seen = looked("a.jsonl", "\n".join(map(json.dumps, rows)).encode() + b"\n")
    assert types(seen) == {"id": "int64", "at": "timestamp", "x": "float64", "deep": "", "text": "string", "flag": "bool"}


def test_types_of_parquet_are_the_files_own(looked):
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()), "at": pa.array([0, 1], pa.timestamp("us", "UTC")), "x": pa.array([1.0, None]),
            "naive": pa.array([0, 1], pa.timestamp("us")), "list": pa.array([[1], [2]]), "text": ["a", "b"],
        }
    )  # fmt: skip
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    seen = looked("a.parquet", sink.getvalue().to_pybytes())
    assert types(seen) == {"id": "int64", "at": "timestamp", "x": "float64", "naive": "", "list": "", "text": "string"}


def test_what_is_no_file_of_rows_is_refused(looked):
    with pytest.raises(FileRefused, match="is empty"):
        looked("a.csv", b"")
    with pytest.raises(RequestError, match="has no row that can be read"):
        looked("a.csv", b"id,at\n")
    with pytest.raises(RequestError, match=r"a\.xlsx is no file of a known format"):
        looked("a.xlsx", b"x")
