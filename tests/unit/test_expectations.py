"""Suites over tables: own expectations, what columns imply, severities, and every failure with its rows."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import great_expectations.expectations as gxe
import pandas as pd
import pyarrow as pa
import pytest
from toy_sources.sightings import sightings

from perennial import QUARANTINE_BATCH, REJECT_ROW, WARN, Checks, Column
from perennial.core.expectations import Suite, row_wise_faults
from perennial.core.findings import verdict_of
from perennial.core.trials import Trial
from perennial.errors import SourceMismatch
from perennial.expectations import (
    ExpectColumnPairValuesNegativeToMatchRegex,
    ExpectColumnValuesToBePlausibleTimes,
    ExpectMulticolumnValuesToBeFinite,
    ExpectMulticolumnValuesToBeReadable,
    ExpectMulticolumnValuesToNotBeNull,
)
from perennial.shell.lake import schema_of

CLOCK = datetime(2026, 3, 1, tzinfo=UTC)
DAY = pd.Timestamp("2026-02-01", tz="UTC")


def table(*rows, source=sightings):
    """Rows of the toy source, each the usual one with changes, under keys 1, 2, …"""
    usual = {"changed_at": DAY, "seen_at": DAY, "country": "Britain", "length": 1.0, "weight": 2.0}
    made = [{"id": number, **usual, **row} for number, row in enumerate(rows, start=1)]
    return pa.Table.from_pylist(made, schema=schema_of(source))


def source_with(*expectations, **changes):
    return replace(sightings, expectations=lambda: list(expectations), **changes)


def failed(source, *rows):
    """Positions of the rows that fail, by rule; rules that nothing fails are left out."""
    suite = Suite(source, CLOCK)
    (tallies,) = suite.tallies([table(*rows, source=source)])
    assert [tally.crash for tally in tallies if tally.crash] == []
    return {
        rule.name.removeprefix("expect_"): tally.failed.tolist()
        for rule, tally in zip(suite.rules, tallies, strict=True)
        if len(tally.failed)
    }


def verdict(source, *tables):
    """The verdict on a batch that comes in these tables."""
    suite = Suite(source, CLOCK)
    trial = Trial(source, source.checks, suite.rules)
    for each in tables:
        trial.add(each, suite.tallies([each])[0])
    return verdict_of(trial.findings())


ANY = gxe.ExpectColumnValuesToBeBetween(column="weight", min_value=-1e9, max_value=1e9, severity=WARN)


def test_good_rows_fail_nothing():
    assert failed(sightings, {}, {"length": None}, {"country": None}) == {}


@pytest.mark.parametrize("column", ["id", "seen_at", "changed_at"])
def test_a_row_without_key_event_time_or_time_of_change_fails(column):
    assert failed(sightings, {}, {column: None}) == {"multicolumn_values_to_not_be_null": [1]}


def test_a_row_without_a_value_that_its_column_requires_fails():
    columns = tuple(replace(each, nullable=False) if each.name == "length" else each for each in sightings.columns)
    assert failed(replace(sightings, columns=columns), {"length": None}) == {"multicolumn_values_to_not_be_null": [0]}


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinity_fails_though_no_bound_is_stated(value):
    assert failed(source_with(ANY), {}, {"length": value}) == {"multicolumn_values_to_be_finite": [1]}


@pytest.mark.parametrize("text", ["x" * 10_001, "caf\ufffd", "a\x00b", "\x1b[31m"])
def test_a_text_that_is_too_long_or_was_decoded_wrongly_fails(text):
    assert failed(sightings, {}, {"country": text}, {"country": "Curaçao\n"}) == {"multicolumn_values_to_be_readable": [1]}


def test_an_event_ahead_of_the_sources_clock_fails_beyond_what_is_allowed():
    rows = ({"seen_at": CLOCK}, {"seen_at": CLOCK + pd.Timedelta(hours=23)}, {"seen_at": CLOCK + pd.Timedelta(hours=25)})
    assert failed(sightings, *rows) == {"column_values_to_be_plausible_times": [2]}


@pytest.mark.parametrize(
    ("declared", "row", "rule"),
    [
        (Column("length", "float64", min_value=0), {"length": -0.1}, "column_values_to_be_between"),
        (Column("length", "float64", max_value=5), {"length": 5.1}, "column_values_to_be_between"),
        (Column("country", "string", value_set=("Britain",)), {"country": "Brexitia"}, "column_values_to_be_in_set"),
        (Column("country", "string", regex="^[A-Z]"), {"country": "britain"}, "column_values_to_match_regex"),
        (
            Column("seen_at", "timestamp", min_value=datetime(2020, 1, 1, tzinfo=UTC)),
            {"seen_at": datetime(1970, 1, 1, tzinfo=UTC)},
            "column_values_to_be_plausible_times",
        ),
    ],
)
def test_what_a_column_declares_is_expected_of_its_values(declared, row, rule):
    columns = tuple(declared if each.name == declared.name else each for each in sightings.columns)
    assert failed(source_with(ANY, columns=columns), {}, row, {declared.name: None} if declared.nullable else {}).get(rule) == [
        1
    ]


def test_a_number_may_be_negative_only_where_a_text_says_so():
    rule = ExpectColumnPairValuesNegativeToMatchRegex(column_A="length", column_B="country", regex="C", severity=REJECT_ROW)
    rows = ({"length": -1, "country": "Chad"}, {"length": -1}, {"length": -1, "country": None}, {"length": None})
    assert failed(source_with(rule), *rows) == {"column_pair_values_negative_to_match_regex": [1, 2]}


def test_own_expectations_survive_great_expectations_own_form():
    made = (
        ExpectMulticolumnValuesToNotBeNull(column_list=["a", "b"]),
        ExpectMulticolumnValuesToBeFinite(column_list=["a", "b"]),
        ExpectMulticolumnValuesToBeReadable(column_list=["a", "b"], max_length=7),
        ExpectColumnValuesToBePlausibleTimes(column="a", latest="2026-01-01T00:00:00+00:00"),
        ExpectColumnPairValuesNegativeToMatchRegex(column_A="a", column_B="b", regex="C"),
    )
    for each in made:
        assert each.configuration.to_domain_obj() == each


def test_failures_are_attributed_to_the_rows_of_each_table():
    suite = Suite(sightings, CLOCK)
    tables = [table({}, {"weight": 5000}), table({}), table({"weight": -7000}, {}, {"weight": math.inf})]
    number = next(n for n, rule in enumerate(suite.rules) if rule.name == "expect_column_values_to_be_between")
    assert [tallies[number].failed.tolist() for tallies in suite.tallies(tables)] == [[1], [], [0, 2]]


def test_one_batch_without_a_column_does_not_keep_the_others_from_being_judged():
    suite = Suite(sightings, CLOCK)
    with pytest.raises(KeyError):
        suite.tallies([table({}).drop_columns("weight")])


def test_mostly_is_about_the_batch_and_not_about_each_table():
    rule = gxe.ExpectColumnValuesToNotBeNull(column="weight", mostly=0.9, severity=QUARANTINE_BATCH)
    good = verdict(source_with(rule), table(*[{"weight": None}] * 5, {}), table(*[{}] * 94))
    bad = verdict(source_with(rule), table(*[{}] * 10), table(*[{}] * 10), table(*[{"weight": None}] * 10))
    assert (good.state, bad.state) == ("accepted", "quarantined")
    assert "expect_column_values_to_not_be_null on weight: 10 of 30 rows fail it" in bad.reason


@pytest.mark.parametrize(("bad", "state"), [(7, "accepted"), (8, "quarantined")])
def test_rows_without_a_value_say_nothing_about_their_values_and_exactly_mostly_passes(bad, state):
    rule = gxe.ExpectColumnValuesToBeBetween(column="length", max_value=9, mostly=0.93, severity=QUARANTINE_BATCH)
    rows = [{"length": None}] * 500 + [{"length": 10}] * bad + [{}] * (100 - bad)
    assert verdict(source_with(rule), table(*rows)).state == state


SAID = [(WARN, "accepted", "noticed: "), (REJECT_ROW, "accepted", "rejected: "), (QUARANTINE_BATCH, "quarantined", "")]


@pytest.mark.parametrize(("severity", "state", "said"), SAID)
def test_the_severity_says_what_follows(severity, state, said):
    rule = gxe.ExpectColumnValuesToBeBetween(column="length", max_value=9, severity=severity)
    made = verdict(source_with(rule), table({}, {}, {}, {"length": 10}))
    assert (made.state, made.reason) == (
        state, f"{said}expect_column_values_to_be_between on length: 1 of 4 rows fail it, such as 10.0",
    )  # fmt: skip


def test_too_many_rejected_rows_hold_the_batch_and_few_of_a_small_one_do_not():
    source = source_with(ANY, checks=Checks(max_rejected=0.2))
    assert verdict(source, table(*[{"id": None}] * 2, *[{}] * 2)).state == "accepted"
    made = verdict(source, table(*[{"id": None}] * 300, *[{}] * 700))
    assert made.state == "quarantined"
    assert made.reason == "300 of 1,000 rows are rejected, more than 20%: expect_multicolumn_values_to_not_be_null 300"


def test_a_batch_of_nothing_but_rejected_rows_is_held():
    assert "every one of 2 rows is rejected" in verdict(sightings, table({"id": None}, {"id": None})).reason


@pytest.mark.parametrize("severity", [REJECT_ROW, QUARANTINE_BATCH])
def test_an_expectation_that_crashes_counts_as_failed(severity):
    wrong = gxe.ExpectColumnValuesToBeBetween(column="country", max_value=1, severity=severity)
    made = verdict(source_with(wrong), table({}))
    assert made.state == "quarantined"
    assert "expect_column_values_to_be_between on country: the expectation could not be run" in made.reason


def test_a_crash_of_a_mere_warning_is_a_warning():
    wrong = gxe.ExpectColumnValuesToBeBetween(column="country", max_value=1, severity=WARN)
    made = verdict(source_with(wrong), table({}))
    assert (made.state, "could not be run" in made.reason) == ("accepted", True)


def test_a_suite_of_bounds_of_columns_is_none_that_is_empty():
    columns = (*sightings.columns[:-1], Column("weight", "float64", min_value=0))
    source = replace(sightings, columns=columns, expectations=list)
    assert failed(source, {"weight": 1.0}, {"weight": -1.0}) == {"column_values_to_be_between": [1]}


def test_an_empty_suite_is_refused():
    with pytest.raises(SourceMismatch, match="Source sightings has no expectations"):
        Suite(replace(sightings, expectations=list), CLOCK)


@pytest.mark.parametrize(
    ("expectation", "fault"),
    [
        (gxe.ExpectColumnMeanToBeBetween(column="weight", max_value=9), "is not row-wise"),
        (gxe.ExpectColumnValuesToBeUnique(column="id"), "is not row-wise"),
        (gxe.ExpectCompoundColumnsToBeUnique(column_list=["id", "country"]), "is not row-wise"),
        (gxe.ExpectColumnQuantileValuesToBeBetween(
            column="weight", quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 1]]}), "is not row-wise"),
        (gxe.ExpectColumnValuesToNotBeNull(column="weight", mostly=0.9, severity=REJECT_ROW), "mostly says nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_row_by_row_is_refused(expectation, fault):
    assert fault in " ".join(row_wise_faults(expectation))
    with pytest.raises(SourceMismatch, match=fault):
        Suite(source_with(expectation), CLOCK)


def test_great_expectations_itself_refuses_an_unknown_severity():
    with pytest.raises(ValueError, match="severity"):
        gxe.ExpectColumnValuesToNotBeNull(column="weight", severity="drop it")
