"""Batches that were landed while a column could not lack values are read beside those in which it may."""

from collections import namedtuple
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from toy_sources.sightings import sightings

from perennial.shell.lake import BatchWriter, Reader, rows_at, schema_of
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
def batches(store, tmp_path):
    """One of each kind."""
    today = schema_of(sightings)
    strict = pa.schema([pa.field(column.name, today.field(column.name).type, column.nullable) for column in sightings.columns])
    assert strict != today
    return [landed(store, tmp_path, 1, FIRST, strict), landed(store, tmp_path, 2, SECOND, today)]


def test_both_kinds_are_read_as_one(store, batches):
    names = [column.name for column in sightings.columns]
    rows = Reader(store, sightings, names).rows(batches, names, FIRST, SECOND)
    assert rows["id"].tolist() == [1, 2]


def test_rows_of_a_moment_have_the_columns_of_today(store, batches):
    (found,) = rows_at(store, batches[0], sightings, pa.array([FIRST, SECOND], schema_of(sightings).field("seen_at").type))
    assert (found.schema, pc.sum(found["id"]).as_py()) == (schema_of(sightings), 1)
