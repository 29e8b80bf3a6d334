"""Whatever is in the rows: no run crashes, no row is lost, no row that breaks a rule is let through."""

import math
import re
from dataclasses import replace
from datetime import UTC, datetime

import great_expectations.expectations as gxe
import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_sources.sightings import sightings

from perennial import REJECT_ROW, Column
from perennial.core.copies import hashes, repeated
from perennial.core.expectations import Suite
from perennial.core.findings import verdict_of
from perennial.core.profiles import Past, compare
from perennial.core.trials import Trial, rejected_schema, with_reasons
from perennial.expectations import ExpectColumnPairValuesNegativeToMatchRegex
from perennial.shell.lake import schema_of

CLOCK = datetime(2026, 3, 1, tzinfo=UTC)
LATEST = CLOCK + sightings.checks.max_future
RULES = [
    gxe.ExpectColumnValuesToBeBetween(column="weight", min_value=-1000, max_value=1000, severity=REJECT_ROW),
    ExpectColumnPairValuesNegativeToMatchRegex(column_A="weight", column_B="country", regex="[A-Z]", severity=REJECT_ROW),
]
COUNTRY = Column("country", "string", nullable=False, regex=r"^[^0-9]", value_set=())
SOURCE = replace(
    sightings,
    columns=tuple(COUNTRY if each.name == "country" else each for each in sightings.columns),
    expectations=lambda: RULES,
)
SUITE = Suite(SOURCE, CLOCK)

moments = st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
numbers = st.none() | st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e308, math.inf, -math.inf, 1000.0, 1000.0001])
texts = st.none() | st.text(max_size=12) | st.sampled_from(["", "Britain", "x" * 10_001, "caf\ufffd", "\x00", "7", "é\n"])
rows = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-(2**63), 2**63 - 1), "changed_at": moments, "seen_at": moments, "country": texts,
        "length": numbers, "weight": numbers,
    }
)  # fmt: skip


def is_sound(row):
    """The rules of SOURCE, said once more in plain Python."""
    if any(row[name] is None for name in ("id", "changed_at", "seen_at", "country")):
        return False
    if row["seen_at"] > LATEST or any(row[name] is not None and math.isinf(row[name]) for name in ("length", "weight")):
        return False
    text, weight = row["country"], row["weight"]
    if len(text) > 10_000 or re.search("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f]", text) or not re.search("^[^0-9]", text):
        return False
    if weight is None or math.isnan(weight):
        return True
    return -1000 <= weight <= 1000 and (weight >= 0 or re.match("[A-Z]", text) is not None)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(rows, max_size=12), min_size=1, max_size=4))
def test_mangled_rows_are_accepted_exactly_where_they_are_sound(batches):
    tables = [pa.Table.from_pylist(batch, schema=schema_of(SOURCE)) for batch in batches]
    for batch, table, tallies in zip(batches, tables, SUITE.tallies(tables), strict=True):
        trial = Trial(SOURCE, SOURCE.checks, SUITE.rules)
        trial.add(table, tallies)
        repeated(hashes(table, SOURCE), np.empty(0, dtype=np.uint64))
        expected = [place for place, row in enumerate(batch) if not is_sound(row)]
        assert trial.rejected.tolist() == expected
        assert trial.crashes == {}
        kept = with_reasons(table.take(pa.array(trial.rejected)), *trial.reasons(0, trial.rejected))
        assert kept.schema == rejected_schema(schema_of(SOURCE))
        assert all(kept["rejected_by"].to_pylist())
        unusual = compare(trial.profiler.profile(), CLOCK, Past(), SOURCE.checks)
        verdict = verdict_of([*trial.findings(), *unusual])
        assert (verdict.state == "quarantined") >= (len(expected) == len(batch))
        assert verdict.report(trial.profiler.profile())


def test_ten_megabytes_in_one_field_cost_one_row():
    usual = {"id": 1, "changed_at": CLOCK, "seen_at": CLOCK, "country": "Britain", "length": 1.0, "weight": 1.0}
    table = pa.Table.from_pylist([usual, {**usual, "country": "x" * 10_000_000}], schema=schema_of(SOURCE))
    trial = Trial(SOURCE, SOURCE.checks, SUITE.rules)
    trial.add(table, SUITE.tallies([table])[0])
    assert trial.rejected.tolist() == [1]
    assert len(verdict_of(trial.findings()).reason) < 1000
