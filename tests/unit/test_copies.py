"""Copies: the same row under another key; a revision is none."""

import numpy as np
import pandas as pd
import pyarrow as pa
from toy_sources.sightings import sightings

from perennial.core.copies import copies, hashes, repeated, without_revisions
from perennial.shell.lake import schema_of

DAY = pd.Timestamp("2026-02-01", tz="UTC")
NOTHING = np.empty(0, dtype=np.uint64)


def table(*rows):
    made = [
        dict(zip(("id", "weight", "country"), row, strict=True)) | {"changed_at": DAY, "seen_at": DAY, "length": 1.0}
        for row in rows
    ]
    return pa.Table.from_pylist(made, schema=schema_of(sightings))


def found(own, earlier=()):
    """Positions of copies, by the whole way that a batch goes."""
    mine, before = table(*own), table(*earlier)
    suspects = repeated(hashes(mine, sightings), hashes(before, sightings))
    rows = mine.to_pandas().iloc[suspects]
    made = copies(rows, before.to_pandas(), sightings)
    return without_revisions(made, mine.select(["id"]).to_pandas(), before.select(["id"]).to_pandas()).tolist()


def test_the_later_of_two_rows_that_differ_in_their_key_only_is_a_copy():
    assert found([(1, 2.0, "Britain"), (2, 3.0, "Britain"), (3, 2.0, "Britain"), (4, 2.0, "Britain")]) == [2, 3]


def test_rows_that_differ_in_a_text_only_are_no_copies():
    assert found([(1, 2.0, "Britain"), (2, 2.0, "France")]) == []


def test_a_row_like_one_of_an_earlier_batch_is_a_copy():
    assert found([(7, 2.0, "Britain"), (8, 9.0, "Britain")], earlier=[(1, 2.0, "Britain")]) == [0]


def test_missing_values_are_like_missing_values():
    assert found([(1, None, None), (2, None, None)]) == [1]


def test_a_revision_is_no_copy_though_it_makes_its_row_like_another():
    assert found([(1, 20.0, "Britain"), (2, 2.0, "Britain"), (1, 2.0, "Britain")]) == []
    assert found([(1, 2.0, "Britain")], earlier=[(1, 20.0, "Britain"), (2, 2.0, "Britain")]) == []


def test_a_row_touched_and_left_as_it_was_is_no_copy():
    assert found([(1, 2.0, "Britain"), (1, 2.0, "Britain")]) == []


def test_minus_zero_is_zero():
    assert found([(1, 0.0, "Britain"), (2, -0.0, "Britain")]) == [1]


def test_no_suspect_where_every_row_has_its_own_values():
    assert len(repeated(hashes(table(*[(n, float(n), "x") for n in range(100)]), sightings), NOTHING)) == 0
