"""Rows that say that they are removed are judged by nothing: the place of every other row stays its own."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from toy_files import sightings_files

from perennial.core.copies import copies
from perennial.core.expectations import Rule, Tally
from perennial.core.removals import present
from perennial.core.trials import Trial
from perennial.shell.lake import schema_of
from perennial.spec import REJECT_ROW, Checks

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULE = Rule(name="light", columns=("weight",), severity=REJECT_ROW, mostly=1.0, kwargs={})


def table(*removed):
    rows = [
        {"id": number, "seen_at": NOON, "changed_at": NOON, "country": "Britain", "length": 1.0, "weight": 1.0, "removed": gone}
        for number, gone in enumerate(removed)
    ]
    return pa.Table.from_pylist(rows, schema=schema_of(sightings_files))


def test_a_rejected_row_is_found_behind_removed_ones():
    trial = Trial(sightings_files, Checks(max_rejected=1.0), [RULE])
    for rows in (table(True, False, True, False), table(True, True, False)):
        trial.add(rows, [Tally(rows=1, failed=np.array([present(rows, sightings_files).num_rows - 1]))])
    assert trial.rejected.tolist() == [3, 6]
    assert (trial.rows, trial.present, trial.profiler.profile()["rows"]) == (7, 3, 3)


def test_the_share_of_rejected_rows_is_one_of_those_present():
    trial = Trial(sightings_files, Checks(max_rejected=0.2), [RULE])
    trial.add(table(*[True] * 90, *[False] * 10), [Tally(rows=10, failed=np.arange(10))])
    (finding,) = [found for found in trial.findings() if found.expectation == "max_rejected"]
    assert (finding.success, finding.rows, finding.unexpected) == (False, 10, 10)


def test_a_removed_row_is_no_copy():
    rows = table(False, True, False, True).to_pandas()
    assert copies(rows, rows.iloc[:0], sightings_files).tolist() == [2]
