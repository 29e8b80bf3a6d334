"""The lake: one Parquet object per batch, written row group by row group, read by column and event time."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perennial.errors import StoreError
from perennial.shell.store import Store
from perennial.spec import Source

TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def schema_of(source: Source) -> pa.Schema:
    """The Arrow schema of a source's rows. Every column may lack values: what must not is told by the validation."""
    return pa.schema([pa.field(column.name, TYPES[column.type]) for column in source.columns])


@dataclass(frozen=True, kw_only=True)
class LandedFile:
    """A batch that is written locally and not stored yet."""

    path: Path
    rows: int
    event_min: datetime | None
    event_max: datetime | None
    sha256: str
    size: int


class BatchWriter:
    """Writes one country's batch to a local file, chunk by chunk; ``schema`` where it is not that of the source's rows."""

    def __init__(self, path: Path, source: Source, schema: pa.Schema | None = None) -> None:
        self.path, self.event_time = path, source.event_time
        self.file = pq.ParquetWriter(path, schema or schema_of(source), compression="zstd")
        self.rows = 0
        self.bounds: list[datetime] = []

    def write(self, table: pa.Table) -> None:
        """Append a chunk as a row group."""
        self.file.write_table(table)
        self.rows += table.num_rows
        span = pc.min_max(table[self.event_time])
        self.bounds += [moment for moment in (span["min"].as_py(), span["max"].as_py()) if moment is not None]

    def close(self) -> LandedFile:
        """Finish the file and describe it."""
        self.file.close()
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return LandedFile(
            path=self.path,
            rows=self.rows,
            event_min=min(self.bounds, default=None),
            event_max=max(self.bounds, default=None),
            sha256=digest,
            size=self.path.stat().st_size,
        )


def open_batch(store: Store, object_key: str, sha256: str) -> pq.ParquetFile:
    """A stored batch whose bytes are those of the ledger. Raises StoreError when they are not."""
    data = store.get(object_key)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreError(f"{store.url}/{object_key} is not what the ledger recorded. Restore it, or retract the batch.")
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


def fetch_batch(store: Store, object_key: str, sha256: str, path: Path) -> pq.ParquetFile:
    """The same in a local file, so that memory holds only what is read of it."""
    store.get_file(object_key, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise StoreError(f"{store.url}/{object_key} is not what the ledger recorded. Restore it, or retract the batch.")
    return pq.ParquetFile(path, pre_buffer=False)


def tables(file: pq.ParquetFile, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A batch in tables of so many rows at most."""
    for part in file.iter_batches(rows, columns=columns, use_threads=False):
        table = pa.Table.from_batches([part])
        yield table.select(columns) if columns else table


def rows_at(store: Store, batch: Any, source: Source, moments: pa.Array) -> Iterator[pa.Table]:
    """Rows of a batch (``object_key``, ``sha256``) whose event time is one of the moments, table by table."""
    file, wanted = open_batch(store, batch.object_key, batch.sha256), schema_of(source)
    first, last = pc.min(moments).as_py(), pc.max(moments).as_py()
    for group in range(file.num_row_groups):
        if _overlaps(file, group, source.event_time, first, last):
            table = file.read_row_group(group, columns=wanted.names, use_threads=False).select(wanted.names).cast(wanted)
            yield table.filter(pc.is_in(table[source.event_time], value_set=moments))


def read_rows(
    store: Store, batches: Sequence[Any], source: Source, columns: Sequence[str], start: datetime, end: datetime
) -> pd.DataFrame:
    """Rows of the batches (``object_key``, ``sha256``) with an event time in [start, end], of the named columns."""
    needed = [field.name for field in schema_of(source) if field.name in columns]
    tables = [schema_of(source).empty_table().select(needed)]
    for batch in batches:
        file = open_batch(store, batch.object_key, batch.sha256)
        groups = [index for index in range(file.num_row_groups) if _overlaps(file, index, source.event_time, start, end)]
        if groups:
            table = file.read_row_groups(groups, columns=needed, use_threads=False)
            times = table[source.event_time]
            tables.append(table.filter(pc.and_(pc.greater_equal(times, start), pc.less_equal(times, end))))
    rows: pd.DataFrame = pa.concat_tables(tables, promote_options="default").to_pandas()
    return rows


def _overlaps(file: pq.ParquetFile, group: int, event_time: str, start: datetime, end: datetime) -> bool:
    metadata = file.metadata.row_group(group)
    statistics = metadata.column(file.schema_arrow.get_field_index(event_time)).statistics
    return statistics is None or not statistics.has_min_max or (statistics.max >= start and statistics.min <= end)
