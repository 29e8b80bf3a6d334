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

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perennial.errors import ObjectMissing, StoreError
from perennial.shell.frames import cast_column, check_filled, missing_column, plain_frame, typed_frame
from perennial.shell.key_hashes import Hashes, key_hashes
from perennial.shell.revisions import PLACE, Mask, in_force
from perennial.shell.store import Store
from perennial.spec import REMOVED, FileSource, Source

TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
RESTORE = "Restore it from a backup of the store, or retract the batch."
GROUP_ROWS = 25_000  # of a row group of batches that were put together
OBJECT = "object of the row"
Moments = tuple[datetime, datetime]


def columns_of(source: Source) -> pa.Schema:
    """The Arrow schema of what comes from a source. Every column may lack values: what must not is told by the validation."""
    return pa.schema([pa.field(column.name, TYPES[column.type]) for column in source.columns])


def schema_of(source: Source) -> pa.Schema:
    """The Arrow schema of a source's rows in the lake: what comes from it, and whether a row says that it is removed."""
    columns = columns_of(source)
    return columns if REMOVED in columns.names else columns.append(pa.field(REMOVED, pa.bool_()))


def marked(table: pa.Table, source: Source) -> pa.Table:
    """Rows with ``removed``: where they do not say it yet, what their ``deleted`` column says, or else false."""
    if REMOVED in table.column_names:
        place = table.column_names.index(REMOVED)
        return table.set_column(place, REMOVED, table[REMOVED].fill_null(False)) if table[REMOVED].null_count else table
    if not source.deleted:
        return table.append_column(REMOVED, _false(table.num_rows))
    return table.append_column(REMOVED, says_deleted(table[source.deleted]))


def says_deleted(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Which values of a ``deleted`` column, true ones or moments, say that their row is deleted."""
    return values.fill_null(False) if pa.types.is_boolean(values.type) else values.is_valid()


def _false(rows: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.repeat(False, rows)])


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
        self.path, self.source, self.event_time = path, source, source.event_time
        self.schema = schema or schema_of(source)
        self.has_timestamps = pa.types.is_timestamp(self.schema.field(source.event_time).type)
        self.file = pq.ParquetWriter(path, self.schema, compression="zstd")
        self.rows = 0
        self.bounds: list[datetime] = []

    def write(self, table: pa.Table) -> None:
        """Append a chunk as a row group. Rows that do not say whether they are removed are marked as the source says."""
        if REMOVED in self.schema.names:
            table = marked(table, self.source).select(self.schema.names)
        self.file.write_table(table)
        self.rows += table.num_rows
        if not self.has_timestamps:
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


def open_batch(store: Store, object_key: str, sha256: str, fix: str = RESTORE) -> pq.ParquetFile:
    """A stored batch whose bytes are those of the ledger. Raises StoreError, with what to do, when they are not."""
    try:
        file = store.open(object_key)
    except ObjectMissing as error:
        raise ObjectMissing(f"{error} {fix}") from error
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
        file.close()
        raise StoreError(f"{store.url}/{object_key} is not what the ledger recorded. {fix}")
    return pq.ParquetFile(file, pre_buffer=False)


def open_rows(store: Store, source: Source, batch: Any) -> pq.ParquetFile:
    """An object that a source's rows are read from. Raises StoreError, which says what to enter in which form."""
    return open_batch(store, batch.object_key, batch.sha256, fix_of(source, batch))


def fix_of(source: Source, batch: Any) -> str:
    """What to do where an object of a batch cannot be read, and what to enter in the form of its source's quarantine.

    A batch without a ``state`` is an accepted one.
    """
    country, seq = _identity(batch)
    if not seq or getattr(batch, "batches", 1) > 1:
        return RESTORE
    is_file, state = isinstance(source, FileSource), getattr(batch, "state", "accepted")
    holds = f"It holds batch {source.name}/{country} {seq}. Restore it from a backup of the store"
    form = f"quarantine_{source.name} with action {{}}, country {country}, batch {seq}"
    if state == "accepted":
        then = "" if is_file else ", and after that extract again"
        return f"{holds}, or trigger {form.format('retract')}{then}."
    again = "or write its file again" if is_file else f"or trigger {form.format('extract again')}"
    if state == "retracted":
        return f"{holds}, {again}."
    return f"{holds} and trigger {form.format('validate again')}; {again}."


def tables(file: pq.ParquetFile, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A batch in tables of so many rows at most. One from before rows said whether they are removed has none that is."""
    for part in file.iter_batches(rows, columns=columns, use_threads=False):
        table = pa.Table.from_batches([part])
        if columns and REMOVED in columns and REMOVED not in table.column_names:
            table = table.append_column(REMOVED, _false(table.num_rows))
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
            for table in tables(file, GROUP_ROWS, schema.names):
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
    """Names and types of a file's columns as ``tables`` gives them, each of which may lack values."""
    columns = pa.schema([pa.field(field.name, field.type) for field in file.schema_arrow])
    return columns if REMOVED in columns.names else columns.append(pa.field(REMOVED, pa.bool_()))


def rows_at(store: Store, batch: Any, source: Source, moments: pa.Array) -> Iterator[pa.Table]:
    """Rows of a batch (``object_key``, ``sha256``) whose event time is one of the moments, table by table."""
    file, wanted = open_rows(store, source, batch), schema_of(source)
    first, last = pc.min(moments).as_py(), pc.max(moments).as_py()
    for group in range(file.num_row_groups):
        if _may_overlap(_event_times(file, group, source.event_time), first, last):
            table = _read_group(file, group, wanted, source, batch)
            yield table.filter(pc.is_in(table[source.event_time], value_set=moments))


def row_columns(source: Source, columns: Sequence[str]) -> set[str]:
    """The columns that rows need to be put in order, beside the named ones; all, where none is named."""
    named = columns or [column.name for column in source.columns]
    return {*named, *source.revision_columns}


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A row group outside of a window; ``place``: how many rows of its object inside of it come before."""

    batch: Any
    number: int
    place: int
    is_first: bool


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """The rows of objects with an event time in [start, end], object after object, each column in one piece.

    ``lengths``: rows by object. ``elsewhere``: later revisions of their keys outside of [start, end], each with its object and
    PLACE, how many of that object's rows come before it.
    """

    start: datetime
    end: datetime
    lengths: dict[str, int]
    table: pa.Table
    elsewhere: pd.DataFrame

    def holds(self, keys: Sequence[str], start: datetime, end: datetime) -> bool:
        """Whether all that is asked for has been read."""
        return self.start <= start and end <= self.end and self.lengths.keys() >= set(keys)

    def of_objects(self, keys: Sequence[str]) -> pa.Table:
        """The rows of some of the objects."""
        if list(keys) == list(self.lengths):
            return self.table
        firsts = dict(zip(self.lengths, accumulate(self.lengths.values(), initial=0), strict=False))
        return pa.concat_tables([self.table.slice(0, 0), *(self.table.slice(firsts[key], self.lengths[key]) for key in keys)])

    def elsewhere_of(self, keys: Sequence[str]) -> pd.DataFrame:
        """Later revisions in some of the objects; PLACE: how many rows of them all come before."""
        if self.elsewhere.empty:
            return self.elsewhere
        lengths = [self.lengths[key] for key in keys]
        before = pd.Series(list(accumulate(lengths, initial=0))[:-1], index=list(keys), dtype="int64")
        found = self.elsewhere[self.elsewhere[OBJECT].isin(list(keys))]
        placed = found.assign(**{PLACE: found[PLACE].to_numpy() + before.loc[found[OBJECT]].to_numpy()})
        return placed.sort_values(PLACE, kind="stable").drop(columns=OBJECT)


class Reader:
    """Reads rows of a source's batches, and keeps what the last reading touched: the next model may ask for the same.

    ``columns``: all that will be asked for. Batches never change, so what is kept is never stale.
    """

    def __init__(self, store: Store, source: Source, columns: Collection[str]) -> None:
        self.store, self.source, self.event_time = store, source, source.event_time
        self.columns = {column.name: column for column in source.columns}
        needed = {*columns, *source.revision_columns, REMOVED}
        self.schema = pa.schema([field for field in schema_of(source) if field.name in needed])
        self.kept: _Reading | None = None
        self.chosen: tuple[Any, Mask | None] | None = None
        self.lent = pd.DataFrame()

    def rows(
        self, batches: Sequence[Any], columns: Collection[str], start: datetime, end: datetime,
        *, known_until: datetime | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Rows in force of the batches (``object_key``, ``sha256``) with an event time in [start, end], of the named columns.

        In force is the latest revision of each key over all of the batches, wherever its event time lies, unless it says that
        its row is removed; what was changed after ``known_until`` is left out. Types are those of the spec. Raises
        SourceMismatch, naming column and batch, where a batch has no such values.

        Where the rows are just what is kept, they share its memory: whoever writes to them before the next reading writes to a
        copy, afterwards is refused.
        """
        keys = [batch.object_key for batch in batches]
        if self.kept is None or not self.kept.holds(keys, start, end):
            self.kept, self.chosen, self.lent = None, None, pd.DataFrame()
            self.kept = self._read(batches, start, end)
        found = self.kept.of_objects(keys)
        mask = self._in_force(keys, found, known_until, self.kept)
        if (start, end) != (self.kept.start, self.kept.end):
            inside = self._inside(found, start, end)
            mask = inside if mask is None else mask & inside
        found = found.select([name for name in self.schema.names if name in columns])
        if mask is not None:
            found = found.filter(pa.array(mask))
        self._check_filled(found)
        # Arrow's memory cannot be written to; pandas copies it before a write as long as two frames refer to it.
        self.lent = typed_frame(found, self.columns)
        return self.lent.copy(deep=False)

    def _in_force(
        self, keys: Sequence[str], found: pa.Table, known_until: datetime | None, kept: _Reading
    ) -> Mask | None:  # fmt: skip
        """As ``in_force`` says, once for those who ask for the same one after another."""
        asked = (tuple(keys), known_until)
        if self.chosen is None or self.chosen[0] != asked:
            self.chosen = asked, in_force(found, kept.elsewhere_of(keys), self.source, known_until)
        return self.chosen[1]

    def _check_filled(self, found: pa.Table) -> None:
        for name in found.column_names:
            if name in self.columns:
                check_filled(found[name], self.columns[name], f"Source {self.source.name}: column {name}")

    def _read(self, batches: Sequence[Any], start: datetime, end: datetime) -> _Reading:
        lengths: dict[str, int] = {}
        pieces: dict[str, list[pa.ChunkedArray]] = {name: [] for name in self.schema.names}
        later = _Later(self.source)
        for batch in batches:
            lengths[batch.object_key] = 0
            for table in self._groups(batch, start, end, later):
                lengths[batch.object_key] += table.num_rows
                for name in self.schema.names:
                    pieces[name] += table[name].chunks
        # Column by column, here and below: what is needed besides is one column's, not the table's.
        columns = [pa.chunked_array(pieces.pop(field.name), field.type).combine_chunks() for field in self.schema]
        table = pa.table(columns, schema=self.schema)
        return _Reading(start=start, end=end, lengths=lengths, table=table, elsewhere=later.found(self.store, table))

    def _groups(self, batch: Any, start: datetime, end: datetime, later: "_Later") -> Iterator[pa.Table]:
        """The rows of an object with an event time in the window; the others are left to ``later``."""
        file, place = open_rows(self.store, self.source, batch), 0
        for number in range(file.num_row_groups):
            span = _event_times(file, number, self.event_time)
            if not _may_overlap(span, start, end):
                later.pass_by(file, batch, number, place)
                continue
            table = _read_group(file, number, self.schema, self.source, batch)
            if not (span is not None and start <= span[0] and span[1] <= end and not table[self.event_time].null_count):
                inside = self._inside(table, start, end)
                later.leave_out(table, inside, batch, place)
                table = table.filter(pa.array(inside))
            place += table.num_rows
            later.has_begun |= table.num_rows > 0
            yield table

    def _inside(self, table: pa.Table, start: datetime, end: datetime) -> Mask:
        times = table[self.event_time]
        inside: Mask = pc.and_(pc.greater_equal(times, start), pc.less_equal(times, end)).fill_null(False).to_numpy()
        return inside


class _Later:
    """Collects what may hold later revisions of a window's rows: what is outside of the window, and not read whole."""

    def __init__(self, source: Source) -> None:
        self.source, self.has_begun = source, False
        self.schema = pa.schema([field for field in schema_of(source) if field.name in (*source.key, source.changed_at)])
        self.groups: list[tuple[_Group, Any, Any]] = []
        self.parts: list[tuple[pa.Table, Any, str]] = []

    def pass_by(self, file: pq.ParquetFile, batch: Any, number: int, place: int) -> None:
        """A row group that is outside of the window as a whole."""
        group = _Group(batch=batch, number=number, place=place, is_first=not self.has_begun)
        changed, key = (_span(file, number, name) for name in (self.source.changed_at, self.source.key[0]))
        self.groups.append((group, changed, key))

    def leave_out(self, table: pa.Table, inside: Mask, batch: Any, place: int) -> None:
        """The rows of a row group that are outside of the window."""
        places = (place + np.cumsum(inside))[~inside]
        outside = table.select(self.schema.names).filter(pa.array(~inside))
        self.parts.append((outside, places, batch.object_key))

    def found(self, store: Store, rows: pa.Table) -> pd.DataFrame:
        """Revisions of the rows' keys that may be later than they are, in the order of their landing within each object."""
        parts = [self._none()]
        if rows.num_rows and (self.parts or self.groups):
            bounds = {name: _bounds(rows[name]) for name in (self.source.changed_at, self.source.key[0])}
            reads = (
                self._group(store, group)
                for group, changed, key in self.groups
                if self._may_be_later(group, changed, key, bounds)
            )
            oldest, hashes = bounds[self.source.changed_at], None
            for table, places, key in (*self.parts, *reads):
                recent = pc.greater_equal(table[self.source.changed_at], oldest[0]).fill_null(False).to_numpy()
                if not oldest[0] or not recent.any():
                    continue
                hashes = np.unique(key_hashes(rows, self.source.key)) if hashes is None else hashes
                parts.append(_revisions(table, places, key, recent, hashes, self.source))
        return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]

    def _none(self) -> pd.DataFrame:
        none = plain_frame(self.schema.empty_table())
        none[PLACE], none[OBJECT] = np.empty(0, dtype=np.int64), ""
        return none

    def _may_be_later(self, group: _Group, changed: Any, key: Any, bounds: dict[str, Any]) -> bool:
        """Whether a row group may hold a revision of the rows' keys: by its least and greatest values."""
        oldest = bounds[self.source.changed_at][0]
        if changed is not None and (changed[1] < oldest or (group.is_first and changed[1] == oldest)):
            return False
        least, greatest = bounds[self.source.key[0]]
        is_comparable = key is not None and isinstance(key[0], type(least)) and not isinstance(least, float)
        return not is_comparable or (key[0] <= greatest and least <= key[1])

    def _group(self, store: Store, group: _Group) -> tuple[pa.Table, Any, str]:
        file = open_rows(store, self.source, group.batch)
        table = _read_group(file, group.number, self.schema, self.source, group.batch)
        return table, np.full(table.num_rows, group.place), group.batch.object_key


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any]:
    span = pc.min_max(column)
    return span["min"].as_py(), span["max"].as_py()


def _revisions(table: pa.Table, places: Any, key: str, recent: Mask, hashes: Hashes, source: Source) -> pd.DataFrame:
    """The recent rows of a table whose keys are among the hashed ones."""
    chosen, places = table.filter(pa.array(recent)), places[recent]
    mask = np.isin(key_hashes(chosen, source.key), hashes)
    return plain_frame(chosen.filter(pa.array(mask))).assign(**{PLACE: places[mask], OBJECT: key})


def _read_group(file: pq.ParquetFile, group: int, wanted: pa.Schema, source: Source, batch: Any) -> pa.Table:
    """A row group in columns and types of the spec, column by column. Raises SourceMismatch where that cannot be."""
    columns = {column.name: column for column in source.columns}
    there, rows = set(file.schema_arrow.names), file.metadata.row_group(group).num_rows
    arrays = []
    for field in wanted:
        what = f"Source {source.name}: column {field.name} of {_name(batch)}"
        if field.name in there:
            values = file.read_row_group(group, columns=[field.name], use_threads=False).column(0)
            arrays.append(cast_column(values, field.type, what))
        elif field.name == REMOVED:
            arrays.append(_false(rows))
        else:
            arrays.append(missing_column(rows, field.type, columns[field.name], what))
    return pa.table(arrays, schema=wanted)


def _name(batch: Any) -> str:
    """How an error names a batch, or the first one of a compaction."""
    country, seq = _identity(batch)
    return f"batch {country} {seq} ({batch.object_key})" if seq else f"batch {batch.object_key}"


def _identity(batch: Any) -> tuple[str, int | None]:
    """Country and number of a batch, or of the first one of a compaction; a number where it has one."""
    seq = getattr(batch, "seq", None) or getattr(batch, "first_seq", None)
    return batch.object_key.split("/")[-2], seq


def _may_overlap(span: Moments | None, start: datetime, end: datetime) -> bool:
    return span is None or (span[1] >= start and span[0] <= end)


def _event_times(file: pq.ParquetFile, group: int, event_time: str) -> Moments | None:
    return _span(file, group, event_time)


def _span(file: pq.ParquetFile, group: int, name: str) -> Any | None:
    """The least and the greatest value of a column of a row group; None where the file does not say."""
    place = file.schema_arrow.get_field_index(name)
    statistics = file.metadata.row_group(group).column(place).statistics if place >= 0 else None
    return (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else None
