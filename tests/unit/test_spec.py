"""What a spec says about itself."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from toy_files import sightings_files
from toy_models.zoo import zoo
from toy_models.zoo.weight import weight
from toy_sources.sightings import sightings

from perennial import Checks, Column, Days, Fleet, Gate, Minutes, Owner, Seconds


def whats(spec):
    return [fault.what for fault in spec.faults()]


@pytest.mark.parametrize("spec", [zoo, weight, sightings, sightings_files])
def test_a_healthy_spec_has_no_fault(spec):
    assert spec.faults() == []


def test_units_are_spans():
    assert (Days(1), Minutes(1), Seconds(1)) == (timedelta(1), timedelta(minutes=1), timedelta(seconds=1))


def test_a_spec_knows_the_line_that_constructs_it():
    fleet = Fleet(name="here", owner=Owner("me"), countries=("GB",))
    assert fleet.where == f"{__file__}:{fleet_line()}"
    assert replace(fleet, name="there").where == fleet.where


def fleet_line():
    with open(__file__) as file:
        return next(number for number, line in enumerate(file, 1) if 'Fleet(name="here"' in line)


def test_two_specs_that_say_the_same_are_equal_wherever_they_stand():
    assert replace(weight, where="elsewhere:1") == weight


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": "Weight"}, "model name 'Weight' is not a name"),
        ({"owner": "keepers"}, "owner is not an Owner"),
        ({"owner": Owner("")}, "an owner has no name"),
        ({"owner": Owner("keepers", alerts="mailto://keepers@example.com")}, "an owner's alerts are not a tuple of addresses"),
        ({"owner": Owner("keepers", tier="high")}, "an owner's tier 'high' is not a number"),
        ({"metric": "accuracy"}, "unknown metric 'accuracy'"),
        ({"window": 60}, "window is not a positive span"),
        ({"holdout": Days(0)}, "holdout is not a positive span"),
        ({"time_limit": Days(-1)}, "time_limit is not a positive span"),
        ({"attempts": 0}, "attempts is 0"),
        ({"gate": 2.0}, "gate is not a Gate"),
        ({"gate": Gate(floor=1, margin=5)}, "gate margin 5 is not in [0, 1)"),
        ({"gate": Gate(floor=1, confidence=0.5)}, "gate confidence 0.5 is not in (0.5, 1)"),
        ({"gate": Gate(floor=1, min_rows=1)}, "gate min_rows 1 is below 2"),
        ({"gate": Gate(floor=1, min_clusters=1)}, "gate min_clusters 1 is below 2"),
        ({"gate": Gate(floor=1, min_train_rows=0)}, "gate min_train_rows 0 is below 1"),
        ({"gate": Gate(floor=1, max_missing_labels=2)}, "gate max_missing_labels 2 is no share"),
        ({"gate": Gate(floor=1, max_refit_distance=0)}, "gate max_refit_distance is not positive"),
        ({"countries": ()}, "countries is empty"),
        ({"countries": "GB"}, "countries is not a tuple"),
        ({"countries": None}, "countries is not a tuple"),
        ({"countries": ("GB", "GB")}, "a country is named twice"),
        ({"features": lambda examples: examples}, "features is not a named function"),
        ({"estimator": None}, "estimator is not a named function"),
    ],
)
def test_a_model_names_its_fault(changes, what):
    assert whats(replace(weight, **changes)) == [what]


LATER = Column("later", "timestamp", min_value=datetime(2020, 1, 1))  # noqa: DTZ001


def with_column(**changes):
    """The toy source's columns, the last one changed."""
    return (*sightings.columns[:-1], replace(sightings.columns[-1], **changes))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": "order lines"}, "source name 'order lines' is not a name"),
        ({"key": ("code",)}, "no Column for code"),
        ({"key": ()}, "key is empty"),
        ({"owner": "rangers"}, "owner is not an Owner"),
        ({"changed_at": "length"}, "length must be of type timestamp"),
        ({"columns": (*sightings.columns, Column("note", "text"))}, "column note: unknown column type text"),
        ({"max_commit_lag": Seconds(-1)}, "max_commit_lag is negative"),
        ({"columns": with_column(severity="drop it")}, "column weight: unknown severity 'drop it'"),
        ({"columns": with_column(min_value="0")}, "column weight: bounds do not fit the type"),
        ({"columns": with_column(regex="x")}, "column weight: a regex needs a string column"),
        ({"columns": (*sightings.columns, Column("note", "string", regex="("))}, "column note: '(' is no regular expression"),
        ({"columns": (*sightings.columns, LATER)}, "column later: a bound has no time zone"),
        ({"checks": Checks(copies="no")}, "checks: unknown severity 'no'"),
        ({"checks": Checks(max_rejected=2)}, "checks: max_rejected 2 is no share"),
        ({"checks": Checks(volume=2.0)}, "checks: volume is not a Limit"),
        ({"country_checks": {"GB": Checks(memory=0)}}, "checks: memory is 0"),
        ({"country_checks": {"XX": Checks()}}, "country_checks names XX, which countries does not map to"),
        ({"expectations": []}, "expectations is not a function"),
    ],
)
def test_a_source_names_its_fault(changes, what):
    assert whats(replace(sightings, **changes)) == [what]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"prefix": ""}, "prefix '' is no folder of a store"),
        ({"prefix": "in"}, "prefix 'in' is no folder of a store"),
        ({"prefix": "/in/"}, "prefix '/in/' is no folder of a store"),
        ({"prefix": "in/../lake/"}, "prefix 'in/../lake/' is no folder of a store"),
        ({"format": "xlsx"}, "unknown format 'xlsx'"),
        ({"pattern": "("}, "pattern '(' is no regular expression"),
        ({"quiet": Seconds(-1)}, "quiet is negative"),
        ({"key": ("code",)}, "no Column for code"),
        ({"columns": (*sightings_files.file_columns, Column("note", "text"))}, "column note: unknown column type text"),
    ],
)
def test_a_source_of_files_names_its_fault(changes, what):
    assert what in whats(replace(sightings_files, **changes))


def test_rows_of_files_get_the_moment_of_their_pick_up_and_whether_they_are_removed():
    names = [column.name for column in sightings_files.columns]
    assert names == [*(column.name for column in sightings_files.file_columns), "changed_at", "removed"]
    assert replace(sightings_files, name="others").columns == sightings_files.columns
    assert "toy_files.py:" in sightings_files.where


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"name": "1st"}, "fleet name '1st' is not a name"),
        ({"workers": 0}, "workers is 0"),
        ({"owner": "keepers"}, "owner is not an Owner"),
        ({"failure_limit": 10}, "failure_limit is not in [0, 1]"),
        ({"countries": ("GB", "France")}, "no country codes: France"),
    ],
)
def test_a_fleet_names_its_fault(changes, what):
    assert whats(replace(zoo, **changes)) == [what]


def test_a_fleet_may_declare_codes_of_its_own():
    assert replace(zoo, countries=("north-1",), country_pattern=r"[a-z]+-\d").faults() == []


def test_all_faults_of_a_model_are_named_at_once():
    broken = replace(weight, metric="accuracy", window=0, attempts=0, gate=Gate(floor=1, margin=2, min_rows=0))
    assert len(broken.faults()) == 5
    assert all(fault.where == weight.where and fault.fix for fault in broken.faults())
