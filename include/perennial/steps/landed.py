"""Which changes a batch holds, those that could not be read among them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.resources import Resources
from perennial.shell import lake
from perennial.shell.values import typed_texts
from perennial.spec import REMOVED, Source
from perennial.steps.batches import country_of, unreadable_schema

TABLE_ROWS = 100_000


def changes_of(resources: Resources, source: Source, batch: Any) -> list[pa.Table]:
    """Keys and ``changed_at`` of a batch's rows, readable or not. Raises StoreError when it cannot be read."""
    identity = [*source.key, source.changed_at]
    schema = pa.schema([field for field in lake.schema_of(source) if field.name in identity])
    schema = pa.schema([schema.field(name) for name in identity])

    file = lake.open_rows(resources.store, source, batch)
    read = _own_changes(file, source, batch.country).select(identity).cast(schema)
    aside = unreadable_rows(resources, source, batch)
    return [read, *(identity_of(table, source) for table in aside)]


def _own_changes(file: pq.ParquetFile, source: Source, country: str) -> pa.Table:
    """The rows of a batch without those that have left its country: another batch holds their change."""
    names = [*source.key, source.changed_at, source.country]
    tables = [*lake.tables(file, TABLE_ROWS, [*dict.fromkeys(names), REMOVED])]
    rows = pa.concat_tables(tables)
    elsewhere = np.array([country_of(source, value) != country for value in rows[source.country].to_pylist()], dtype=bool)
    return rows.filter(pa.array(~(elsewhere & rows[REMOVED].to_numpy().astype(bool))))


def identity_of(texts: pa.Table, source: Source) -> pa.Table:
    """Which changes unreadable rows are, missing where even that cannot be read."""
    names = [*source.key, source.changed_at]
    return pa.table(typed_texts(texts, source, names)).select(names)


def unreadable_rows(resources: Resources, source: Source, batch: Any) -> Iterator[pa.Table]:
    """A batch's rows that could not be read, in the spec's columns of today, all as texts."""
    if batch.unreadable_key is None:
        return
    key, sha256, fix = batch.unreadable_key, batch.unreadable_sha256, lake.fix_of(source, batch)
    file, schema = lake.open_batch(resources.store, key, sha256, fix), unreadable_schema(source)
    for table in lake.tables(file, TABLE_ROWS):
        there = set(table.column_names)
        columns = [table[field.name] if field.name in there else pa.nulls(table.num_rows, field.type) for field in schema]
        yield pa.table(columns, schema=schema)
