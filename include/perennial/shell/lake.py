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
    """The Arrow schema of a source's rows."""
    return pa.schema([pa.field(column.name, TYPES[column.type], column.nullable) for column in source.columns])


@dataclass(frozen=True, kw_only=True)
class LandedFile:
    """A batch that is written locally and not stored yet."""

    path: Path
    rows: int
    event_min: datetime
    event_max: datetime
    sha256: str
    size: int


class BatchWriter:
    """Writes one country's batch to a local file, chunk by chunk."""

    def __init__(self, path: Path, source: Source) -> None:
        self.path, self.event_time = path, source.event_time
        self.file = pq.ParquetWriter(path, schema_of(source), compression="zstd")
        self.rows = 0
        self.bounds: list[datetime] = []

    def write(self, table: pa.Table) -> None:
        """Append a chunk as a row group."""
        self.file.write_table(table)
        self.rows += table.num_rows
        span = pc.min_max(table[self.event_time])
        self.bounds += [span["min"].as_py(), span["max"].as_py()]

    def close(self) -> LandedFile:
        """Finish the file and describe it."""
        self.file.close()
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return LandedFile(
            path=self.path,
            rows=self.rows,
            event_min=min(self.bounds),
            event_max=max(self.bounds),
            sha256=digest,
            size=self.path.stat().st_size,
        )


def open_batch(store: Store, object_key: str, sha256: str) -> pq.ParquetFile:
    """A stored batch whose bytes are those of the ledger. Raises StoreError when they are not."""
    data = store.get(object_key)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreError(f"{store.url}/{object_key} is not what the ledger recorded. Restore it, or retract the batch.")
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


def chunks(file: pq.ParquetFile) -> Iterator[pd.DataFrame]:
    """A batch, row group by row group."""
    for group in range(file.num_row_groups):
        yield file.read_row_group(group, use_threads=False).to_pandas()


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
    rows: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return rows


def _overlaps(file: pq.ParquetFile, group: int, event_time: str, start: datetime, end: datetime) -> bool:
    metadata = file.metadata.row_group(group)
    statistics = metadata.column(file.schema_arrow.get_field_index(event_time)).statistics
    return statistics is None or (statistics.max >= start and statistics.min <= end)
