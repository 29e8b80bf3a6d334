"""Rows have the types of their source's spec, whatever a batch holds, lacks, or was landed as."""

from collections import namedtuple
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from toy_sources.sightings import sightings

from perennial import WARN, Column
from perennial.core.snapshots import latest_revisions
from perennial.errors import SourceMismatch
from perennial.shell.key_hashes import key_hashes
from perennial.shell.lake import BatchWriter, Reader, columns_of, open_batch, put_together, row_columns, schema_of
from perennial.shell.store import FolderStore

Batch = namedtuple("Batch", "object_key sha256 seq")
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
BIG = 2**53 + 1


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


class Lake:
    """Batches of GB with one further column."""

    def __init__(self, folder):
        self.folder, self.store, self.batches = folder, FolderStore(folder / "store"), []

    def land(self, column, *values):
        """A batch with a row per value, as a spec with this column lands it; without one, of rows alone."""
        source, seq = with_column(column), len(self.batches) + 1
        rows = [
            {"id": 10 * seq + number, "changed_at": START + seq * timedelta(days=1), "seen_at": START, "country": "Britain",
             "length": 1.0, "weight": 2.0, **({column.name: value} if column else {})}
            for number, value in enumerate(values)
        ]  # fmt: skip
        schema = columns_of(source)
        writer = BatchWriter(self.folder / str(seq), source, None if column else schema)
        writer.write(pa.Table.from_pylist(rows, schema=schema))
        key = f"lake/sightings/GB/{seq}"
        self.batches.append(Batch(key, writer.close().sha256, seq))
        self.store.put_file(key, writer.path)

    def read(self, column):
        """The column as a recipe gets it."""
        source = with_column(column)
        columns = row_columns(source, ())
        return latest_revisions(Reader(self.store, source, columns).rows(self.batches, columns, START, END), source)[
            column.name
        ]


def with_column(column):
    return replace(sightings, columns=(*sightings.columns, *([column] if column else [])))


@pytest.mark.parametrize(
    ("column", "values", "dtype"),
    [
        (Column("n", "int64"), (1, 2), "Int64"),
        (Column("n", "int64"), (BIG, None, BIG - 1), "Int64"),
        (Column("n", "int64", nullable=False), (1, 2), "int64"),
        (Column("n", "int64", nullable=False, severity=WARN), (1, None), "Int64"),
        (Column("b", "bool"), (True, False), "boolean"),
        (Column("b", "bool"), (True, None, False), "boolean"),
        (Column("b", "bool", nullable=False), (True, False), "bool"),
        (Column("x", "float64"), (1.5, None), "float64"),
    ],
)
def test_a_type_is_that_of_the_spec_and_no_value_becomes_another(lake, column, values, dtype):
    lake.land(column, *values)
    found = lake.read(column)
    assert str(found.dtype) == dtype
    assert [None if pd.isna(value) else value for value in found.tolist()] == list(values)


def test_a_missing_value_changes_no_text_and_merges_no_ids(lake):
    lake.land(Column("n", "int64"), 3, None, BIG, BIG - 1, BIG + 1)
    found = lake.read(Column("n", "int64"))
    assert found.astype("string").dropna().tolist() == ["3", str(BIG), str(BIG - 1), str(BIG + 1)]
    assert found.nunique() == 4


def test_scikit_learn_learns_from_such_columns_as_from_floats(lake):
    from sklearn.ensemble import HistGradientBoostingRegressor

    lake.land(Column("n", "int64"), *range(50), None)
    features = lake.read(Column("n", "int64")).to_frame()
    model = HistGradientBoostingRegressor(max_iter=5).fit(features, np.arange(51.0))
    assert np.array_equal(model.predict(features), model.predict(features.astype(float)))


@pytest.mark.parametrize("column", [Column("mood", "string"), Column("mood", "int64"), Column("mood", "timestamp")])
def test_a_column_that_is_younger_than_a_batch_has_no_values_there(lake, column):
    lake.land(None, 1, 2)
    lake.land(column, None)
    assert lake.read(column).isna().tolist() == [True, True, True]


def test_a_younger_column_that_may_not_lack_values_is_refused_by_its_name(lake):
    lake.land(None, 1)
    with pytest.raises(SourceMismatch, match=r"sightings: column mood of batch GB 1 .* older than the column.*nullable"):
        lake.read(Column("mood", "int64", nullable=False))


def test_values_that_lack_in_a_column_that_may_not_are_refused_by_its_name(lake):
    lake.land(Column("n", "int64"), 1, None)
    with pytest.raises(SourceMismatch, match=r"sightings: column n lacks 1 values.*nullable"):
        lake.read(Column("n", "int64", nullable=False))


@pytest.mark.parametrize(
    ("former", "values", "today", "read"),
    [
        ("int64", (1, None), "float64", [1.0, None]),
        ("int64", (1, BIG), "string", ["1", str(BIG)]),
        ("float64", (1.0, -2.0), "int64", [1, -2]),
        ("string", ("1", None), "int64", [1, None]),
    ],
)
def test_another_type_is_read_where_each_value_stays_what_it_was(lake, former, values, today, read):
    lake.land(Column("n", former), *values)
    assert [None if pd.isna(value) else value for value in lake.read(Column("n", today)).tolist()] == read


@pytest.mark.parametrize(
    ("former", "value", "today"),
    [("int64", BIG, "float64"), ("float64", 1.5, "int64"), ("string", "007", "int64"), ("string", "x", "bool"),
     ("timestamp", START, "int64"), ("int64", 2, "bool")],
)  # fmt: skip
def test_another_type_is_refused_by_name_where_a_value_would_change(lake, former, value, today):
    lake.land(Column("n", former), value)
    with pytest.raises(SourceMismatch, match=r"sightings: column n of batch GB 1 .* the spec says"):
        lake.read(Column("n", today))


def test_batches_from_before_and_after_a_column_are_not_put_together(lake):
    lake.land(None, 1)
    lake.land(Column("mood", "string"), "glad")
    file, held = put_together(lake.store, lake.batches, with_column(Column("mood", "string")), lake.folder / "made")
    assert (held, file.rows) == (1, 1)


def test_a_removed_row_may_lack_what_no_other_row_may(lake):
    strict = with_column(Column("n", "int64", nullable=False))
    rows = [{"id": number, "changed_at": START, "seen_at": START, "n": 7, "removed": False} for number in (1, 2)]
    gone = {"id": 1, "changed_at": END, "seen_at": START, "n": None, "removed": True}
    writer = BatchWriter(lake.folder / "made", strict)
    writer.write(pa.Table.from_pylist([*rows, gone], schema=schema_of(strict)))
    lake.batches.append(Batch("lake/sightings/GB/1", writer.close().sha256, 1))
    lake.store.put_file("lake/sightings/GB/1", writer.path)
    found = lake.read(Column("n", "int64", nullable=False))
    assert (found.to_dict(), str(found.dtype)) == ({2: 7}, "int64")
    assert open_batch(lake.store, *lake.batches[0][:2]).metadata.num_rows == 3


def test_hashes_of_keys_stay_what_they_are():
    table = pa.table({"s": ["x", None, "yz"], "t": pa.array([0, 1, None], pa.timestamp("us", "UTC"))})
    assert key_hashes(table, ["s", "t"]).tolist() == [6111431476665767712, 2542056044447497803, -2701141668970366318]
    assert key_hashes(table.slice(1), ["s", "t"]).tolist() == [2542056044447497803, -2701141668970366318]
    zeros = pa.table({"x": [0.0, -0.0, float("nan"), float("nan")], "b": [True, True, None, False]})
    assert [len(set(key_hashes(zeros, [name]).tolist())) for name in ("x", "b")] == [2, 3]
