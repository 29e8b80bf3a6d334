"""Reads the files of a source: what lies below its prefix, and the rows of one file, chunk by chunk.

What concerns the whole refuses a file: no header, a column that is missing or of another kind, a cut end, gigabytes in a small
file. A row that cannot be read is set apart by itself.
"""

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from perennial.errors import FileRefused
from perennial.shell.store import Entry, Store
from perennial.shell.values import (
    INFINITE,
    NEEDS,
    NO_UTF8,
    NO_VALUE,
    Flaw,
    Positions,
    Raw,
    Reading,
    Texts,
    Wrong,
    as_text,
    reading,
    required_columns,
    shown,
)
from perennial.spec import Column, FileSource

CHUNK_ROWS = 25_000
CHUNK_BYTES = 8 << 20
LONGEST_ROW = 1 << 20
LEAST_UNPACKED, MOST_RATIO = 64 << 20, 200  # a file may unpack to so many bytes, and so many times its own size more
NOT_YET = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart")
JSON_TYPES = {"string": (str,), "int64": (int,), "float64": (int, float), "bool": (bool,), "timestamp": (str,)}
JSON_ARRAYS = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
NO_JSON, NO_OBJECT, LONG_LINE = "row: no JSON", "row: no JSON object", "row: too long"
OTHER_FIELDS = "row: another number of fields"


def look(store: Store, source: FileSource) -> tuple[list[Entry], datetime]:
    """The source's files as their store lists them, oldest first, and the store's own time.

    Left out is what is not meant yet, or not meant at all: names (or folders) that start with ``.`` or ``_`` or end like a
    temporary file, and names that the spec's pattern does not match.
    """
    entries, clock = store.look(source.prefix)
    meant = [entry for entry in entries if _is_meant(entry.key.removeprefix(source.prefix), source)]
    return sorted(meant, key=lambda entry: (entry.modified, entry.key)), clock


def _is_meant(name: str, source: FileSource) -> bool:
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    return (
        not hidden and not name.lower().endswith(NOT_YET) and name.isprintable() and bool(re.fullmatch(source.file_names, name))
    )


def tables(path: Path, name: str, source: FileSource) -> Iterator[Reading]:
    """The rows of a file's local copy in the spec's columns and types, chunk by chunk, in the file's order.

    ``name`` is the file's below the prefix. Rows that cannot be read come as texts with their reasons. Raises FileRefused where
    something is wrong with the whole, or with every row of it.
    """
    with _refusals():
        if path.stat().st_size == 0:
            raise FileRefused("The file is empty.")
        country = _country_of(name, source)
        columns = tuple(column for column in source.file_columns if country is None or column.name != source.country)
        is_read, reason = False, ""
        for raw in READERS[source.format](path, name, columns):
            made = _with_country(reading(raw, columns, required_columns(source, columns), NO_VALUE), source, country)
            is_read, reason = is_read or made.rows.num_rows > 0, reason or next(iter(made.reasons), "")
            yield made
        if reason and not is_read:
            raise FileRefused(f"No row of it can be read. {reason}")


def _with_country(made: Reading, source: FileSource, country: str | None) -> Reading:
    """A reading in all columns of the spec, with the country of the file's name."""
    rows, unreadable = made.rows, made.unreadable
    if country is not None:
        rows = rows.append_column(source.country, pa.array([country] * rows.num_rows, pa.string()))
        unreadable = unreadable.append_column(source.country, pa.array([country] * unreadable.num_rows, pa.string()))
    names = [column.name for column in source.file_columns]
    return replace(made, rows=rows.select(names), unreadable=unreadable.select(names))


@contextmanager
def _refusals() -> Iterator[None]:
    """What libraries say of bytes that they cannot read, as a refusal."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileRefused(f"It is no whole gzip file: {_brief(error)}.") from error
    except UnicodeError as error:
        raise FileRefused(f"It is not in UTF-8: {_brief(error)}.") from error
    except (pa.ArrowException, csv.Error) as error:
        raise FileRefused(f"It cannot be read: {_brief(error)}.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise FileRefused(f"It cannot be read: {_brief(error)}.") from error


def _brief(error: Exception) -> str:
    text = " ".join(ascii(str(error))[1:-1].split())
    return text[:300].rstrip(". ")


def _country_of(name: str, source: FileSource) -> str | None:
    """The country that a file's name gives, None where its rows say it."""
    found = re.fullmatch(source.file_names, name)
    return found.groupdict().get("country") if found else None


@dataclass
class _Unpacked(io.RawIOBase):
    """The bytes of a file as they are unpacked. Raises FileRefused once they are far more than the file's own."""

    file: IO[bytes]
    most: int
    taken: int = 0
    last: bytes = b""

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes."""
        return self._counted(self.file.read(size if size >= 0 else CHUNK_BYTES))

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line of at most so many bytes."""
        return self._counted(self.file.readline(-1 if size is None else size))

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        super().close()

    def _counted(self, data: bytes) -> bytes:
        self.taken += len(data)
        _check_unpacked(self.taken, self.most)
        self.last = data[-1:] or self.last
        return data


def _check_unpacked(size: int, most: int) -> None:
    if size > most:
        raise FileRefused(
            f"It unpacks to more than {most:,} bytes, {MOST_RATIO} times its own size and {LEAST_UNPACKED:,} more."
        )


def _most_unpacked(path: Path) -> int:
    return LEAST_UNPACKED + MOST_RATIO * path.stat().st_size


def opened(path: Path, name: str) -> _Unpacked:
    """A file's local copy as its bytes are unpacked, if its name says that they are packed."""
    packed = name.lower().endswith(".gz")
    return _Unpacked(cast(IO[bytes], gzip.open(path)) if packed else path.open("rb"), _most_unpacked(path))


def _check_header(header: list[str], columns: tuple[Column, ...]) -> None:
    missing = [column.name for column in columns if column.name not in header]
    if missing:
        raise FileRefused(f"It has no column {', '.join(missing)}. It has: {shown(', '.join(header), 300)}.")
    twice = [column.name for column in columns if Counter(header)[column.name] > 1]
    if twice:
        raise FileRefused(f"It has the column {', '.join(twice)} twice.")


class _Sentinel(io.RawIOBase):
    """A CSV file with one more row at its end: who does not see that row has read into a quote that never ends.

    No piece ends between the two signs of a Windows line end: there the reader would lose the second one.
    """

    def __init__(self, file: _Unpacked, fields: int) -> None:
        self.file, self.token = file, uuid4().hex
        self.line = ",".join([self.token] * fields)
        self.is_ended = False

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, of which there is always one."""
        data = self.file.read(size - 1 if size > 1 else size)
        if data.endswith(b"\r"):
            data += self.file.read(1)
        if not data and not self.is_ended:
            self.is_ended = True
            return f"\n{self.line}\n".encode()
        return data


@dataclass
class _OddRows:
    """Takes note of CSV rows with another number of fields than the header, by their number, and has them skipped."""

    end: _Sentinel
    found: dict[int, Flaw] = field(default_factory=dict)
    is_seen: bool = False
    cut: str = ""
    last: int = 0

    def __call__(self, row: Any) -> str:
        if row.text.strip() == self.end.line:
            self.is_seen = True
            return "skip"
        self.last = row.number - 1  # the header counts
        said = f"{row.actual_columns} fields instead of {row.expected_columns}: {shown(ascii(row.text), 1_000)}"
        self.found[self.last] = Flaw(OTHER_FIELDS, f"Row {self.last} has {said}")
        few = row.actual_columns < row.expected_columns
        self.cut = f"Expected {row.expected_columns} columns, got {row.actual_columns}" if few else ""
        return "skip"


def _csv(path: Path, name: str, columns: tuple[Column, ...]) -> Iterator[Raw]:
    """Chunks with all values as bytes; an empty one that is not quoted is missing."""
    with closing(opened(path, name)) as file:
        first = file.readline(LONGEST_ROW)
    header = next(csv.reader(io.StringIO(first.decode("utf-8-sig"))), [])
    _check_header(header, columns)
    with closing(opened(path, name)) as file:
        end = _Sentinel(file, len(header))
        odd, number = _OddRows(end), 0
        for batch in _csv_batches(end, odd, columns):
            rows = batch.num_rows
            if rows and batch.column(0)[-1].as_py() == end.token.encode():
                odd.is_seen, rows = True, rows - 1
            numbers = _numbers(number, rows, odd.found)
            if rows:
                yield Raw(columns={column.name: batch[column.name].slice(0, rows) for column in columns}, numbers=numbers)
            number = int(numbers[-1]) if len(numbers) else number
            yield from _odd_rows(odd, number, columns)
        _check_end(odd, number, is_cut=file.last not in (b"\n", b"\r"))
        yield from _odd_rows(odd, odd.last, columns)


def _csv_batches(end: _Sentinel, odd: _OddRows, columns: tuple[Column, ...]) -> Iterator[pa.RecordBatch]:
    wanted = [column.name for column in columns]
    convert = pacsv.ConvertOptions(
        include_columns=wanted, column_types=dict.fromkeys(wanted, pa.binary()), null_values=[""], strings_can_be_null=True,
        quoted_strings_can_be_null=False, check_utf8=False,
    )  # fmt: skip
    try:
        yield from pacsv.open_csv(
            end,
            read_options=pacsv.ReadOptions(block_size=LONGEST_ROW, use_threads=False),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=odd),
            convert_options=convert,
        )
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error):
            raise
        raise FileRefused(f"It cannot be read: a row is longer than {LONGEST_ROW:,} bytes, or a quote does not end.") from error


def _numbers(last: int, rows: int, odd: Mapping[int, Flaw]) -> Positions:
    """The numbers of the next rows after ``last``: those of odd ones are left out."""
    candidates = np.arange(last + 1, last + 1 + rows + len(odd))
    return candidates[~np.isin(candidates, [*odd])][:rows]


def _odd_rows(odd: _OddRows, last: int, columns: tuple[Column, ...]) -> Iterator[Raw]:
    """The odd rows up to a number, of which there are no values."""
    numbers = sorted(number for number in odd.found if number <= last)
    if numbers:
        nothing = pa.nulls(len(numbers), pa.string())
        flaws = {place: odd.found.pop(number) for place, number in enumerate(numbers)}
        yield Raw(columns={column.name: nothing for column in columns}, numbers=np.array(numbers), broken=flaws)


def _check_end(odd: _OddRows, last: int, *, is_cut: bool) -> None:
    if not odd.is_seen:
        raise FileRefused("It cannot be read: it ends within an open quote. The file is cut, or a quote in it is not doubled.")
    if odd.cut and odd.last > last and is_cut:
        raise FileRefused(f"It ends within a row, number {odd.last}: {odd.cut}.")


@dataclass(frozen=True)
class _Line:
    """A line of a file; ``is_whole``: it has an end, and no more bytes than may be read."""

    number: int
    data: bytes
    is_whole: bool


def _jsonl(path: Path, name: str, columns: tuple[Column, ...]) -> Iterator[Raw]:
    """Chunks with moments as text. A column may be left out of a row that has no value for it, but not of all rows."""
    found: set[str] = set()
    last = 0
    with closing(opened(path, name)) as file:
        for lines in _lines(file):
            rows = [_object(line) for line in lines]
            found.update(*(row for row in rows if isinstance(row, dict)))
            yield _json_rows(rows, columns, last)
            last += len(rows)
    if found:
        _check_header(sorted(found), columns)


def _lines(file: _Unpacked) -> Iterator[list[_Line]]:
    lines: list[_Line] = []
    size = 0
    for number in itertools.count(1):
        line = file.readline(LONGEST_ROW + 1)
        if not line or len(lines) == CHUNK_ROWS or size > CHUNK_BYTES:
            if lines:
                yield lines
            lines, size = [], 0
        if not line:
            return
        if line.strip():
            lines.append(_Line(number, line, line.endswith(b"\n")))
            size += len(line)
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_ROW)


def _object(line: _Line) -> dict[str, Any] | Flaw:
    """A line's object, or why there is none. Raises FileRefused where the file ends within it."""
    where = f"Line {line.number}"
    if len(line.data) > LONGEST_ROW:
        return Flaw(LONG_LINE, f"{where} is longer than {LONGEST_ROW:,} bytes")
    try:
        made = json.loads(line.data.decode("utf-8-sig" if line.number == 1 else "utf-8"))
    except UnicodeError as error:
        return Flaw(f"row: {NO_UTF8}", f"{where} is {NO_UTF8}: {_brief(error)}")
    except (ValueError, RecursionError) as error:
        if not line.is_whole:
            raise FileRefused(f"{where} is no JSON, and the file ends within it: {_brief(error)}.") from error
        return Flaw(NO_JSON, f"{where} is no JSON: {_brief(error)}")
    return made if isinstance(made, dict) else Flaw(NO_OBJECT, f"{where} is no JSON object")


def _json_rows(rows: list[dict[str, Any] | Flaw], columns: tuple[Column, ...], last: int) -> Raw:
    objects: list[dict[str, Any]] = [row if isinstance(row, dict) else {} for row in rows]
    made = {column.name: _json_column(objects, column) for column in columns}

    def as_found(places: Positions) -> Texts:
        chosen = [objects[place] for place in places.tolist()]
        return {column.name: [_json_text(row.get(column.name)) for row in chosen] for column in columns}

    def shows(name: str, place: int) -> str:
        return ascii(objects[place].get(name))

    return Raw(
        columns={name: values for name, (values, _) in made.items()}, numbers=np.arange(last + 1, last + 1 + len(rows)),
        broken={place: row for place, row in enumerate(rows) if isinstance(row, Flaw)},
        wrong={name: wrong for name, (_, wrong) in made.items()}, as_found=as_found, shows=shows,
    )  # fmt: skip


def _json_column(rows: list[dict[str, Any]], column: Column) -> tuple[pa.Array, Wrong]:
    """Values of a column as JSON has them, missing where they are of another type or too large, and the places of those."""
    values = [row.get(column.name) for row in rows]
    wrong: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        what = _misfit(value, column)
        if what:
            wrong.setdefault(what, []).append(place)
            values[place] = None
    found = {what: np.array(places) for what, places in wrong.items()}
    if column.type not in JSON_ARRAYS:
        # Half a character, which JSON can say, has no UTF-8: it is found where all texts are looked at.
        encoded = [None if value is None else value.encode("utf-8", "surrogatepass") for value in values]
        return pa.array(encoded, pa.binary()), found
    if column.type == "float64":
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, JSON_ARRAYS[column.type], from_pandas=False), found


def _misfit(value: Any, column: Column) -> str:
    if value is None:
        return ""
    if type(value) not in JSON_TYPES[column.type]:
        return NEEDS[column.type]
    if type(value) is int and column.type == "int64" and not -(2**63) <= value < 2**63:
        return "a number that is too large"
    return INFINITE if type(value) is int and column.type == "float64" and abs(value) >= 2**1024 else ""


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return as_text(text.encode("utf-8", "surrogatepass"))


def _parquet(path: Path, name: str, columns: tuple[Column, ...]) -> Iterator[Raw]:
    """Chunks of few bytes. Texts are read by their dictionary: a value that is there many times is unpacked chunk by chunk."""
    wanted, most, last = [column.name for column in columns], _most_unpacked(path), 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        _check_kinds(file.schema_arrow, columns)
        rows_at_once = _check_size(file.metadata, len(columns), most)
    texts = [column.name for column in columns if column.type == "string"]
    with pq.ParquetFile(path, pre_buffer=False, read_dictionary=texts) as file:
        taken = 0
        for batch in file.iter_batches(rows_at_once, columns=wanted, use_threads=False):
            sizes = sum((_sizes(batch[name]) for name in texts), np.full(batch.num_rows, 8 * len(columns)))
            taken += int(sizes.sum())
            _check_unpacked(taken, most)
            for start, end in _portions(sizes):
                part = batch.slice(start, end - start)
                yield Raw(columns={name: part[name] for name in wanted}, numbers=np.arange(last + 1, last + 1 + end - start))
                last += end - start


def _check_kinds(schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    _check_header(schema.names, columns)
    wrong = [column for column in columns if not holds(schema.field(column.name).type, column)]
    if wrong:
        said = ", ".join(f"{column.name} is {schema.field(column.name).type}, not {column.type}" for column in wrong)
        raise FileRefused(f"Columns have other types: {shown(said, 300)}. A timestamp needs its zone.")


def _check_size(metadata: pq.FileMetaData, columns: int, most: int) -> int:
    """How many rows to read at once. Raises FileRefused where pages or rows are too many for the file."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    _check_unpacked(max(sum(group.total_byte_size for group in groups), metadata.num_rows * 8 * columns), most)
    longest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return max(1, min(CHUNK_ROWS, 4 * CHUNK_BYTES // max(longest, 1)))


def _sizes(values: pa.Array) -> Positions:
    """How many bytes each text has, none where it is missing."""
    if not pa.types.is_dictionary(values.type):
        return np.zeros(len(values), dtype=np.int64)
    lengths = pc.binary_length(values.dictionary).take(values.indices)
    sizes: Positions = lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return sizes


def _portions(sizes: Positions) -> Iterator[tuple[int, int]]:
    """Where to cut rows of such sizes so that each part has few bytes, or one row."""
    portion = np.cumsum(sizes) // CHUNK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(sizes)]
    yield from ((start, end) for start, end in itertools.pairwise(cuts) if end > start)


READERS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}


def holds(kind: pa.DataType, column: Column) -> bool:
    """Whether values of a Parquet column's type are of the spec's, whatever their width."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    holding = {
        "string": (types.is_string, types.is_large_string, types.is_string_view),
        "int64": (types.is_integer,),
        "float64": (types.is_floating, types.is_integer, types.is_decimal),
        "bool": (types.is_boolean,),
        "timestamp": (lambda kind: types.is_timestamp(kind) and kind.tz is not None,),
    }
    return types.is_null(kind) or any(holds(kind) for holds in holding[column.type])
