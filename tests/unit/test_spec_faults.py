"""Whatever stands in a spec is a fault or can be used: names, codes, numbers and types."""

import math
from dataclasses import fields, replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_files import sightings_files
from toy_models.zoo import zoo
from toy_models.zoo.weight import weight
from toy_sources.sightings import sightings

from perennial import Cadence, Checks, Column, Days, Gate, Limit, Minutes, Owner
from perennial.errors import Fault

GARBAGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.datetimes()
    | st.timedeltas()
    | st.sampled_from([10**400, "\0", "\udc80", "x" * 100, print, object(), SimpleNamespace(), Column, Fault]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
BOUNDED = Column("length", "float64", min_value=0.0, max_value=9.0)
SPECS = (zoo, weight, sightings, sightings_files)
PARTS = (Owner("keepers"), Gate(floor=1.0), Cadence(), Checks(), BOUNDED)


def whats(spec):
    return [fault.what for fault in spec.faults()]


def with_column(column, source=sightings):
    return replace(source, columns=(*source.declared_columns, column))


def with_countries(source=sightings, **countries):
    return replace(source, countries={**source.countries, **countries})


NUMBERED = replace(
    sightings,
    countries={826: "GB", 250: "FR", 276: "DE"},
    columns=tuple(replace(each, type="int64") if each.name == "country" else each for each in sightings.columns),
)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_garbage_in_any_field_of_a_spec_is_no_error(spec, data):
    name = data.draw(st.sampled_from([each.name for each in fields(spec) if each.init and each.name != "where"]))
    made = replace(spec, **{name: data.draw(GARBAGE)})
    assert all(isinstance(fault, Fault) and fault.what and fault.fix for fault in made.faults())


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_garbage_in_any_field_of_a_part_of_a_spec_is_no_error(part, data):
    name = data.draw(st.sampled_from([each.name for each in fields(part)]))
    made = replace(part, **{name: data.draw(GARBAGE)})
    assert all(isinstance(fault, Fault) and fault.what and fault.fix for fault in made.faults("here:1"))


@pytest.mark.parametrize("value", ["high", None, math.nan, math.inf, True, 10**400, [1]])
@pytest.mark.parametrize("name", [each.name for each in fields(Gate) if each.name != "cluster"])
def test_every_number_of_a_gate_is_a_finite_number(name, value):
    assert len(Gate(**{"floor": 1.0, name: value}).faults("here:1")) == 1


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (Gate(floor=-1), "gate floor -1 is no number of at least 0"),
        (Cadence(min_new_rows="many"), "cadence: min_new_rows 'many' is no number of rows"),
        (Cadence(max_age=30), "cadence: max_age is not a positive span"),
        (Checks(volume=Limit(math.nan)), "checks: volume is no limit of numbers"),
        (Checks(max_rejected="few"), "checks: max_rejected 'few' is no share"),
        (Checks(max_future=1), "checks: max_future is no span"),
        (replace(BOUNDED, max_value=-1.0), "column length: min_value is above max_value"),
        (replace(BOUNDED, min_value=math.nan), "column length: bounds do not fit the type"),
        (replace(BOUNDED, min_value=False), "column length: bounds do not fit the type"),
        (Column("code", "int64", value_set=("1", "2")), "column code: value_set is no tuple of values of the type"),
        (Column("code", "string", value_set="ab"), "column code: value_set is no tuple of values of the type"),
    ],
)
def test_a_part_of_a_spec_names_its_fault(part, what):
    faults = part.faults("here:1")
    assert [(fault.where, fault.what) for fault in faults] == [("here:1", what)]


def test_an_aware_and_a_naive_bound_are_a_fault_and_no_error():
    column = Column("at", "timestamp", min_value=datetime(2020, 1, 1), max_value=datetime.max)  # noqa: DTZ001, DTZ901
    assert [fault.what for fault in column.faults("here:1")] == ["column at: a bound has no time zone"]


@pytest.mark.parametrize("spec", [zoo, sightings, sightings_files])
@pytest.mark.parametrize("schedule", ["every day", "* * * *", "61 * * * *", "0 0 31 2 *", "", None])
def test_a_schedule_that_is_no_cron_is_a_fault(spec, schedule):
    (fault,) = replace(spec, schedule=schedule).faults()
    assert fault.what == f"schedule {schedule!r} is no cron"
    assert '"*/10 * * * *"' in fault.fix


def test_a_source_without_any_expectation_is_a_fault_and_column_bounds_are_some():
    bare = replace(sightings, expectations=list)
    assert whats(bare) == ["there are no expectations, and no column is bounded: an empty suite lets everything in"]
    bounds = ({"min_value": 0}, {"max_value": 9}, {"value_set": (1.0,)}, {"nullable": False})
    for bound in bounds:
        assert with_column(Column("height", "float64", **bound), bare).faults() == []
    assert with_column(Column("note", "string", regex="^a"), bare).faults() == []


@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 64, "ü" * 32, None])
def test_a_column_that_no_table_can_have_is_a_fault(name):
    (fault,) = with_column(Column(name, "float64")).faults()
    assert fault.what.startswith("no names of columns: ")


@pytest.mark.parametrize("name", ["50%", 'say "hi"', "group", "größe", "a.b", "x" * 63])
def test_a_column_of_an_odd_name_that_a_table_can_have_is_no_fault(name):
    assert with_column(Column(name, "float64")).faults() == []


@pytest.mark.parametrize("table", ["", "a\0b", "x" * 64, "a.b.c", ".b", None, 7])
def test_a_table_that_cannot_be_called_so_is_a_fault(table):
    assert whats(replace(sightings, table=table)) == [f"table {table!r} is no name of a table"]


@pytest.mark.parametrize("source", [sightings, sightings_files])
def test_a_column_that_is_declared_twice_is_a_fault(source):
    assert whats(with_column(Column("weight", "float64"), source)) == ["weight is declared twice in columns"]


@pytest.mark.parametrize("source", [sightings, sightings_files])
@pytest.mark.parametrize("name", ["removed", "rejected_by", "rejected_because"])
def test_columns_that_rows_get_are_reserved_and_a_view_can_rename_them(source, name):
    (fault,) = with_column(Column(name, "bool"), source).faults()
    assert fault.what.startswith(f"the name {name} is reserved")
    assert "view" in fault.fix


def test_a_column_changed_at_of_the_files_themselves_needs_another_name_for_the_pick_up():
    own = with_column(Column("changed_at", "timestamp"), sightings_files)
    (fault,) = own.faults()
    assert fault.what == "the files' own column changed_at has the name of the time of their pick-up"
    renamed = replace(own, changed_at="picked_up_at")
    assert renamed.faults() == []
    assert [column.name for column in renamed.columns[-3:]] == ["changed_at", "picked_up_at", "removed"]


@pytest.mark.parametrize("code", ["../../x", "a/b", "..", ".hidden", "", "G B", "a\0", "GB\n", "Ü", "x" * 64])
@pytest.mark.parametrize("source", [sightings, sightings_files])
def test_a_code_that_is_no_safe_name_of_a_folder_is_a_fault_of_the_source(source, code):
    (fault,) = with_countries(source, Spain=code).faults()
    assert fault.what.startswith("no country codes: ")


@pytest.mark.parametrize("spec", [zoo, weight])
def test_a_code_that_is_no_safe_name_of_a_folder_is_a_fault_whatever_the_pattern(spec):
    changes = {"country_pattern": "(?s).+"} if spec is zoo else {}
    assert whats(replace(spec, countries=("GB", "../../x"), **changes)) == ["no country codes: ../../x"]


def test_the_code_of_unknown_countries_is_reserved():
    what = "the code ZZ is reserved for rows of unknown countries"
    assert whats(with_countries(Spain="ZZ")) == [what]
    assert whats(replace(weight, countries=("GB", "ZZ"))) == [what]
    assert whats(replace(zoo, countries=("GB", "ZZ"))) == [what]


def test_countries_may_be_numbers_where_the_column_has_numbers():
    assert NUMBERED.faults() == []
    assert whats(replace(NUMBERED, countries=sightings.countries)) == [
        "countries maps 'Britain', 'France', 'Germany', and column country is of type int64"
    ]


@pytest.mark.parametrize("key", [826, 8.26, None, True, b"Spain"])
def test_a_key_of_countries_that_is_not_of_the_columns_type_is_a_fault(key):
    (fault,) = replace(sightings, countries={**sightings.countries, key: "ES"}).faults()
    assert fault.what == f"countries maps {key!r}, and column country is of type string"


@pytest.mark.parametrize("kind", ["float64", "bool", "timestamp"])
def test_a_country_column_that_cannot_name_countries_is_a_fault(kind):
    columns = tuple(replace(each, type=kind) if each.name == "country" else each for each in sightings.columns)
    assert whats(replace(sightings, columns=columns)) == [f"the country column is of type {kind}"]


def test_the_country_of_a_files_name_is_a_text():
    pattern = r"(?P<country>\d+)/.+\.csv"
    columns = tuple(replace(each, type="int64") if each.name == "country" else each for each in sightings_files.columns)
    numbered = replace(sightings_files, countries=NUMBERED.countries, columns=columns)
    assert numbered.faults() == []
    assert whats(replace(numbered, pattern=pattern)) == ["pattern names the country, and column country is no string"]


@pytest.mark.parametrize("value", ["ignore", None, "", ["skip"]])
def test_what_happens_to_other_countries_is_one_of_two_words(value):
    assert whats(replace(sightings, other_countries=value)) == [f"other_countries is {value!r}"]
    assert replace(sightings, other_countries="skip").faults() == []


@pytest.mark.parametrize(
    ("holdout", "cluster", "clusters", "fix"),
    [
        (Days(5), "day", 10, "Write holdout=Days(10) or more"),
        (Minutes(300), "hour", 10, "Write holdout=Minutes(600) or more"),
        (Days(8) + Minutes(1439), "day", 10, "Write holdout=Days(10) or more"),
    ],
)
def test_a_holdout_that_can_never_hold_the_clusters_is_a_fault_with_the_numbers(holdout, cluster, clusters, fix):
    gate = Gate(floor=1, cluster=cluster, min_clusters=clusters)
    (fault,) = replace(weight, holdout=holdout, gate=gate).faults()
    most = holdout // timedelta(**{f"{cluster}s": 1}) + 1
    assert f"holds {most} {cluster}s at most, and gate min_clusters asks for 10" in fault.what
    assert fault.fix.startswith(fix)


@pytest.mark.parametrize(("holdout", "cluster"), [(Days(9), "day"), (Minutes(540), "hour"), (Minutes(1), "customer")])
def test_a_holdout_that_may_hold_the_clusters_is_no_fault(holdout, cluster):
    assert replace(weight, holdout=holdout, gate=Gate(floor=1, cluster=cluster)).faults() == []


def test_no_span_reaches_beyond_the_calendar():
    assert whats(replace(weight, window=Days(999_999))) == ["window is longer than a century"]
    assert whats(replace(sightings, max_commit_lag=timedelta.max)) == ["max_commit_lag is longer than a century"]
