"""Expectations over batches that come in chunks."""

from dataclasses import replace

import pandas as pd
import pytest
from toy_sources.sightings import sightings

from perennial.core.expectations import Suite
from perennial.errors import SourceMismatch


@pytest.fixture(scope="module")
def suite():
    """Weight is mostly (0.9) not null, and always within ±1000."""
    return Suite(sightings)


def chunk(*weights):
    return pd.DataFrame({"weight": pd.Series(weights, dtype=float)})


def findings(suite, *chunks):
    """Findings by expectation."""
    return {finding.expectation.removeprefix("expect_column_values_to_"): finding for finding in suite.findings(chunks)}


def mostly_between(share):
    """A suite that asks for weights in [0, 1] in this share of rows."""

    def expectations():
        import great_expectations.expectations as gxe

        return [gxe.ExpectColumnValuesToBeBetween(column="weight", min_value=0, max_value=1, mostly=share)]

    return Suite(replace(sightings, expectations=expectations))


def test_good_rows_pass_every_expectation(suite):
    assert [finding.success for finding in findings(suite, chunk(1, 2, 3)).values()] == [True, True]


def test_mostly_is_about_the_batch_and_not_about_each_chunk(suite):
    finding = findings(suite, chunk(*[None] * 5, 1), chunk(*range(94)))["not_be_null"]
    assert (finding.rows, finding.unexpected, finding.success) == (100, 5, True)


def test_a_batch_below_mostly_fails_though_most_chunks_pass(suite):
    finding = findings(suite, chunk(*range(10)), chunk(*range(10)), chunk(*[None] * 10))["not_be_null"]
    assert (finding.rows, finding.unexpected, finding.success) == (30, 10, False)


def test_a_finding_names_expectation_column_counts_and_examples(suite):
    finding = findings(suite, chunk(1, 5000), chunk(2, -7000))["be_between"]
    assert not finding.success
    assert str(finding) == ("expect_column_values_to_be_between on weight: 2 of 4 rows fail it, such as 5000.0, -7000.0")


def test_rows_without_a_value_say_nothing_about_their_values():
    finding = findings(mostly_between(0.9), chunk(*[None] * 95, *[0.5] * 3, 7, 8))["be_between"]
    assert (finding.rows, finding.unexpected, finding.success) == (5, 2, False)


@pytest.mark.parametrize(("bad", "passes"), [(7, True), (8, False)])
def test_a_batch_exactly_at_mostly_passes(bad, passes):
    finding = findings(mostly_between(0.93), chunk(*[7] * bad, *[0.5] * (100 - bad)))["be_between"]
    assert finding.success is passes


def test_a_missing_column_counts_as_failed(suite):
    made = findings(suite, pd.DataFrame({"length": [1.0]}))
    assert [finding.success for finding in made.values()] == [False, False]
    assert made["be_between"].examples == ("the expectation could not be run",)


def test_a_column_missing_in_one_chunk_fails_the_batch(suite):
    made = findings(suite, chunk(*range(100)), pd.DataFrame({"length": [1.0]}))
    assert not made["be_between"].success


def test_an_expectation_that_cannot_be_added_up_over_chunks_counts_as_failed():
    def expectations():
        import great_expectations.expectations as gxe

        return [gxe.ExpectColumnMeanToBeBetween(column="weight", min_value=0, max_value=9)]

    (finding,) = Suite(replace(sightings, expectations=expectations)).findings([chunk(1, 2)])
    assert not finding.success


def test_one_suite_serves_many_batches(suite):
    assert not findings(suite, chunk(9999))["be_between"].success
    assert findings(suite, chunk(1))["be_between"].success


def test_an_empty_suite_is_refused():
    with pytest.raises(SourceMismatch, match="Source sightings has no expectations"):
        Suite(replace(sightings, expectations=list))
