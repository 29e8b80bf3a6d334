"""The lake: one Parquet object per batch, written row group by row group, read by column and event time.

Small batches are put together into further objects, which hold the same rows in the same order and are read the same way.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
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
GROUP_ROWS = 25_000  # of a row group of batches that were put together
Moments = tuple[datetime, datetime]


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
    """Writes one country's batch to a local file, chunk by chunk; ``schema`` where it is not that of the source's rows.

    Event times may also be texts: those of rows that cannot be read, which have no span.
    """

    def __init__(self, path: Path, source: Source, schema: pa.Schema | None = None) -> None:
        schema = schema or schema_of(source)
        self.path, self.event_time = path, source.event_time
        self.has_moments = pa.types.is_timestamp(schema.field(source.event_time).type)
        self.file = pq.ParquetWriter(path, schema, compression="zstd")
        self.rows = 0
        self.bounds: list[datetime] = []

    def write(self, table: pa.Table) -> None:
        """Append a chunk as a row group."""
        self.file.write_table(table)
        self.rows += table.num_rows
        if not self.has_moments:
            return
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
    file = store.open(object_key)
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
        file.close()
        raise StoreError(f"{store.url}/{object_key} is not what the ledger recorded. Restore it, or retract the batch.")
    return pq.ParquetFile(file, pre_buffer=False)


def tables(file: pq.ParquetFile, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A batch in tables of so many rows at most."""
    for part in file.iter_batches(rows, columns=columns, use_threads=False):
        table = pa.Table.from_batches([part])
        yield table.select(columns) if columns else table


def put_together(store: Store, pieces: Sequence[Any], source: Source, path: Path) -> tuple[LandedFile, int]:
    """Write the rows of stored pieces (``object_key``, ``sha256``), as they stand and in their order, into one local file.

    Ends before the first piece whose columns are others than those before it. Returns the file and how many pieces it holds.
    Memory holds two row groups. Rows that are late lower the earliest event time of their row group alone: a window that
    begins later still passes it by.
    """
    with _opened(store, pieces[0]) as first:
        schema = _columns(first)
    writer, held = BatchWriter(path, source, schema), 0
    waiting: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        with _opened(store, piece) as file:
            if _columns(file) != schema:
                break
            for table in tables(file, GROUP_ROWS):
                waiting.append(table.cast(schema))
                rows += table.num_rows
                if rows >= GROUP_ROWS:
                    writer.write(pa.concat_tables(waiting))
                    waiting, rows = [], 0
        held += 1
    if waiting:
        writer.write(pa.concat_tables(waiting))
    return writer.close(), held


@contextmanager
def _opened(store: Store, piece: Any) -> Iterator[pq.ParquetFile]:
    file = open_batch(store, piece.object_key, piece.sha256)
    try:
        yield file
    finally:
        file.close(force=True)


def _columns(file: pq.ParquetFile) -> pa.Schema:
    """Names and types of a file's columns, each of which may lack values."""
    return pa.schema([pa.field(field.name, field.type) for field in file.schema_arrow])


def rows_at(store: Store, batch: Any, source: Source, moments: pa.Array) -> Iterator[pa.Table]:
    """Rows of a batch (``object_key``, ``sha256``) whose event time is one of the moments, table by table."""
    file, wanted = open_batch(store, batch.object_key, batch.sha256), schema_of(source)
    first, last = pc.min(moments).as_py(), pc.max(moments).as_py()
    for group in range(file.num_row_groups):
        if _may_overlap(_event_times(file, group, source.event_time), first, last):
            table = file.read_row_group(group, columns=wanted.names, use_threads=False).select(wanted.names).cast(wanted)
            yield table.filter(pc.is_in(table[source.event_time], value_set=moments))


def row_columns(source: Source, columns: Sequence[str]) -> set[str]:
    """The columns that rows need to be told apart and put in order, beside the named ones; all, where none is named."""
    named = columns or [column.name for column in source.columns]
    return {*named, *source.revision_columns}


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """The rows of objects with an event time in [start, end], object after object, each column in one piece.

    ``lengths``: rows by object.
    """

    start: datetime
    end: datetime
    lengths: dict[str, int]
    table: pa.Table

    def holds(self, keys: Sequence[str], start: datetime, end: datetime) -> bool:
        """Whether all that is asked for has been read."""
        return self.start <= start and end <= self.end and self.lengths.keys() >= set(keys)

    def of_objects(self, keys: Sequence[str]) -> pa.Table:
        """The rows of some of the objects."""
        if list(keys) == list(self.lengths):
            return self.table
        firsts = dict(zip(self.lengths, accumulate(self.lengths.values(), initial=0), strict=False))
        return pa.concat_tables([self.table.slice(0, 0), *(self.table.slice(firsts[key], self.lengths[key]) for key in keys)])


class Reader:
    """Reads rows of a source's batches, and keeps what the last reading touched: the next model may ask for the same.

    ``columns``: all that will be asked for. Batches never change, so what is kept is never stale.
    """

    def __init__(self, store: Store, source: Source, columns: Collection[str]) -> None:
        self.store, self.event_time, self.changed_at = store, source.event_time, source.changed_at
        self.schema = pa.schema([field for field in schema_of(source) if field.name in columns])
        self.kept: _Reading | None = None
        self.lent = pd.DataFrame()

    def rows(
        self,
        batches: Sequence[Any],
        columns: Collection[str],
        start: datetime,
        end: datetime,
        *,
        known_until: datetime | None = None,
    ) -> pd.DataFrame:
        """Rows of the batches (``object_key``, ``sha256``) with an event time in [start, end], of the named columns; of a later
        ``changed_at`` than ``known_until`` none, where one is given.

        Where they are just what is kept, they share its memory: whoever writes to them before the next reading writes to a
        copy, afterwards is refused.
        """
        keys = [batch.object_key for batch in batches]
        if self.kept is None or not self.kept.holds(keys, start, end):
            self.kept, self.lent = None, pd.DataFrame()
            self.kept = self._read(batches, start, end)
        found = self.kept.of_objects(keys).select([name for name in self.schema.names if name in columns])
        if (start, end) != (self.kept.start, self.kept.end):
            found = self._within(found, start, end)
        if known_until is not None:
            found = found.filter(pc.less_equal(found[self.changed_at], known_until))
        # Arrow's memory cannot be written to; pandas copies it before a write as long as two frames refer to it.
        self.lent = found.to_pandas(split_blocks=True)
        return self.lent.copy(deep=False)

    def _read(self, batches: Sequence[Any], start: datetime, end: datetime) -> _Reading:
        lengths: dict[str, int] = {}
        pieces: dict[str, list[pa.ChunkedArray]] = {name: [] for name in self.schema.names}
        for batch in batches:
            lengths[batch.object_key] = 0
            for table in self._groups(batch, start, end):
                lengths[batch.object_key] += table.num_rows
                for name in self.schema.names:
                    pieces[name] += table[name].chunks
        # Column by column, here and below: what is needed besides is one column's, not the table's.
        columns = [pa.chunked_array(pieces.pop(field.name), field.type).combine_chunks() for field in self.schema]
        return _Reading(start=start, end=end, lengths=lengths, table=pa.table(columns, schema=self.schema))

    def _groups(self, batch: Any, start: datetime, end: datetime) -> Iterator[pa.Table]:
        file = open_batch(self.store, batch.object_key, batch.sha256)
        for number in range(file.num_row_groups):
            span = _event_times(file, number, self.event_time)
            if _may_overlap(span, start, end):
                columns = [_decoded(file, number, name) for name in self.schema.names]
                table = pa.table(columns, names=self.schema.names).cast(self.schema)
                is_inside = span is not None and start <= span[0] and span[1] <= end and not table[self.event_time].null_count
                yield table if is_inside else self._within(table, start, end)

    def _within(self, table: pa.Table, start: datetime, end: datetime) -> pa.Table:
        times = table[self.event_time]
        return table.filter(pc.and_(pc.greater_equal(times, start), pc.less_equal(times, end)))


def _decoded(file: pq.ParquetFile, group: int, name: str) -> pa.ChunkedArray:
    return file.read_row_group(group, columns=[name], use_threads=False).column(0)


def _may_overlap(span: Moments | None, start: datetime, end: datetime) -> bool:
    return span is None or (span[1] >= start and span[0] <= end)


def _event_times(file: pq.ParquetFile, group: int, event_time: str) -> Moments | None:
    metadata = file.metadata.row_group(group)
    statistics = metadata.column(file.schema_arrow.get_field_index(event_time)).statistics
    return (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else None
