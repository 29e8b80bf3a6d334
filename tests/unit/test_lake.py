"""Batches that were landed while a column could not lack values are read beside those in which it may."""

from collections import namedtuple
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from toy_sources.sightings import sightings

from perennial.shell import lake
from perennial.shell.lake import BatchWriter, Reader, open_batch, put_together, rows_at, schema_of, tables
from perennial.shell.store import FolderStore

Batch = namedtuple("Batch", "object_key sha256")
FIRST, SECOND = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def landed(store, folder, number, moment, schema):
    row = {"id": number, "changed_at": moment, "seen_at": moment, "country": "Britain", "length": 1.0, "weight": 2.0}
    writer = BatchWriter(folder / f"{number}.parquet", sightings, schema)
    writer.write(pa.Table.from_pylist([row], schema=schema))
    file = writer.close()
    store.put_file(f"lake/{number}", file.path)
    return Batch(f"lake/{number}", file.sha256)


@pytest.fixture
def names():
    """All columns."""
    return [column.name for column in sightings.columns]


@pytest.fixture
def batches(store, tmp_path):
    """One of each kind."""
    today = schema_of(sightings)
    strict = pa.schema([pa.field(column.name, today.field(column.name).type, column.nullable) for column in sightings.columns])
    assert strict != today
    return [landed(store, tmp_path, 1, FIRST, strict), landed(store, tmp_path, 2, SECOND, today)]


def test_both_kinds_are_read_as_one(store, batches, names):
    rows = Reader(store, sightings, names).rows(batches, names, FIRST, SECOND)
    assert rows["id"].tolist() == [1, 2]


def test_rows_of_a_moment_have_the_columns_of_today(store, batches):
    (found,) = rows_at(store, batches[0], sightings, pa.array([FIRST, SECOND], schema_of(sightings).field("seen_at").type))
    assert (found.schema, pc.sum(found["id"]).as_py()) == (schema_of(sightings), 1)


def test_both_kinds_are_put_together_in_their_order_and_in_row_groups(store, batches, tmp_path, monkeypatch):
    monkeypatch.setattr(lake, "GROUP_ROWS", 2)
    file, held = put_together(store, [*batches, batches[0]], sightings, tmp_path / "together")
    assert (held, file.rows, file.event_min, file.event_max) == (3, 3, FIRST, SECOND)
    with pq.ParquetFile(file.path) as written:
        assert [written.metadata.row_group(number).num_rows for number in range(written.num_row_groups)] == [2, 1]
        assert written.read()["id"].to_pylist() == [1, 2, 1]


def test_it_ends_before_other_columns(store, batches, tmp_path):
    other = landed(store, tmp_path, 3, SECOND, schema_of(sightings).append(pa.field("mood", pa.string())))
    file, held = put_together(store, [*batches, other, batches[0]], sightings, tmp_path / "together")
    assert (held, file.rows) == (2, 2)


def test_a_row_without_event_time_is_in_no_window_whatever_stands_beside_it(store, batches, tmp_path):
    today = schema_of(sightings)
    table = pa.concat_tables(next(tables(open_batch(store, *batch), 2, today.names)).cast(today) for batch in batches)
    holed = table.set_column(2, "seen_at", pa.array([FIRST, None], today.field("seen_at").type))
    writer = BatchWriter(tmp_path / "holed", sightings)
    writer.write(holed)
    batch = Batch("lake/holed", writer.close().sha256)
    store.put_file("lake/holed", writer.path)
    for end in (FIRST, SECOND):
        assert Reader(store, sightings, today.names).rows([batch], today.names, FIRST, end)["id"].tolist() == [1]


def test_what_has_been_read_is_not_read_again(store, batches, names, monkeypatch):
    reader = Reader(store, sightings, names)
    reader.rows(batches, names, FIRST, SECOND)
    monkeypatch.setattr(lake, "open_batch", None)
    assert reader.rows(batches, ["id"], FIRST, SECOND).to_dict("list") == {"id": [1, 2]}
    assert reader.rows(batches, names, SECOND, SECOND)["id"].tolist() == [2]
    assert reader.rows(batches[1:], names, SECOND, SECOND)["id"].tolist() == [2]
    assert reader.rows(batches[::-1], names, FIRST, SECOND)["id"].tolist() == [2, 1]


def test_what_lies_before_what_was_read_is_read_then(store, batches, names):
    reader = Reader(store, sightings, names)
    assert reader.rows(batches, names, SECOND, SECOND)["id"].tolist() == [2]
    assert reader.rows(batches, names, FIRST, SECOND)["id"].tolist() == [1, 2]
    assert reader.rows(batches[1:], names, SECOND, SECOND)["id"].tolist() == [2]
    assert reader.rows([], names, FIRST, SECOND).empty


def test_a_recipe_that_writes_to_its_rows_changes_those_of_no_other(store, batches, names):
    reader = Reader(store, sightings, names)
    first = reader.rows(batches, names, FIRST, SECOND)
    first.loc[:, "id"] = 7
    first.iloc[0, first.columns.get_loc("seen_at")] = first["seen_at"].iloc[1]
    second = reader.rows(batches, names, FIRST, SECOND)
    assert (first["id"].tolist(), second["id"].tolist()) == ([7, 7], [1, 2])
    assert second["seen_at"].tolist() == [FIRST, SECOND]


def test_rows_share_the_memory_of_what_is_kept(store, batches, names):
    reader = Reader(store, sightings, names)
    one, another = (reader.rows(batches, names, FIRST, SECOND) for _ in range(2))
    for name in ("id", "length", "weight"):
        assert np.shares_memory(one[name].to_numpy(), another[name].to_numpy())
