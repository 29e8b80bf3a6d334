"""Reads the files of a source: what lies below its prefix, and the rows of one file, chunk by chunk."""

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from perennial.errors import FileRefused
from perennial.shell.lake import TYPES
from perennial.shell.store import Entry, Store
from perennial.spec import Column, FileSource

CHUNK_ROWS = 25_000
CHUNK_BYTES = 8 << 20
LONGEST_ROW = 1 << 20
SHOWN = 60
NOT_YET = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart")
NO_VALUE = ("", "NA", "NaN", "nan", "NULL", "null")
JSON_TYPES = {"string": (str,), "int64": (int,), "float64": (int, float), "bool": (bool,), "timestamp": (str,)}
NEEDS = {
    "int64": "a whole number",
    "float64": "a number",
    "bool": "true or false",
    "timestamp": "a moment with its zone, such as 2026-01-31T10:00:00Z",
    "string": "a text",
}


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
    return not hidden and not name.endswith(NOT_YET) and name.isprintable() and bool(re.fullmatch(source.file_names, name))


def tables(path: Path, name: str, source: FileSource) -> Iterator[pa.Table]:
    """The rows of a file's local copy in the spec's columns and types, chunk by chunk, in the file's order.

    ``name`` is the file's below the prefix. Raises FileRefused, saying which row, column and value, if it is not all as the
    spec says.
    """
    with _refusals():
        if path.stat().st_size == 0:
            raise FileRefused("The file is empty.")
        country = _country_of(name, source)
        columns = tuple(column for column in source.file_columns if country is None or column.name != source.country)
        before = 0
        for raw in READERS[source.format](path, name, columns):
            yield _typed(raw, before, source, columns, country)
            before += raw.num_rows


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


def _opened(path: Path, name: str) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if name.endswith(".gz") else path.open("rb")


def _check_header(header: list[str], columns: tuple[Column, ...]) -> None:
    missing = [column.name for column in columns if column.name not in header]
    if missing:
        raise FileRefused(f"It has no column {', '.join(missing)}. It has: {_shown(', '.join(header), 300)}.")
    twice = [column.name for column in columns if Counter(header)[column.name] > 1]
    if twice:
        raise FileRefused(f"It has the column {', '.join(twice)} twice.")


def _csv(path: Path, name: str, columns: tuple[Column, ...]) -> Iterator[pa.Table]:
    """Chunks with all values as text; an empty one that is not quoted is missing."""
    with _opened(path, name) as file:
        first = file.readline(LONGEST_ROW)
    _check_header(next(csv.reader(io.StringIO(first.decode("utf-8-sig"))), []), columns)
    wanted = [column.name for column in columns]
    options = {
        "read_options": pacsv.ReadOptions(block_size=LONGEST_ROW, use_threads=False),
        "parse_options": pacsv.ParseOptions(newlines_in_values=True),
        "convert_options": pacsv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=False,
        ),
    }  # fmt: skip
    with _opened(path, name) as file:
        for batch in pacsv.open_csv(file, **options):
            yield pa.Table.from_batches([batch])


def _jsonl(path: Path, name: str, columns: tuple[Column, ...]) -> Iterator[pa.Table]:
    """Chunks with moments as text. A column may be left out of a row that has no value for it, but not of all rows."""
    found: set[str] = set()
    number = 0
    with _opened(path, name) as file:
        for rows in _objects(file):
            found.update(*rows)
            yield pa.table({column.name: _json_column(rows, column, number) for column in columns})
            number += len(rows)
    if number:
        _check_header(sorted(found), columns)


def _objects(file: IO[bytes]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    for number in itertools.count(1):
        line = file.readline(LONGEST_ROW + 1)
        if not line or len(rows) == CHUNK_ROWS or size > CHUNK_BYTES:
            if rows:
                yield rows
            rows, size = [], 0
        if not line:
            return
        if line.strip():
            rows.append(_object(line, number))
            size += len(line)


def _object(line: bytes, number: int) -> dict[str, Any]:
    if len(line) > LONGEST_ROW:
        raise FileRefused(f"Line {number} is longer than {LONGEST_ROW:,} bytes.")
    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    try:
        made = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileRefused(f"Line {number} is no JSON: {_brief(error)}.") from error
    if not isinstance(made, dict):
        raise FileRefused(f"Line {number} is no JSON object.")
    return made


def _json_column(rows: list[dict[str, Any]], column: Column, before: int) -> pa.Array:
    values = [row.get(column.name) for row in rows]
    for number, value in enumerate(values, before + 1):
        if value is not None and type(value) not in JSON_TYPES[column.type]:
            raise _no_such(value, column, number)
    try:
        return pa.array(values, pa.string() if column.type == "timestamp" else TYPES[column.type])
    except OverflowError as error:
        raise FileRefused(f"Column {column.name} has a number that is too large from row {before + 1} on.") from error


def _parquet(path: Path, name: str, columns: tuple[Column, ...]) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        schema = file.schema_arrow
        _check_header(schema.names, columns)
        wrong = [column for column in columns if not _holds(schema.field(column.name).type, column)]
        if wrong:
            said = ", ".join(f"{column.name} is {schema.field(column.name).type}, not {column.type}" for column in wrong)
            raise FileRefused(f"Columns have other types: {_shown(said, 300)}. A timestamp needs its zone.")
        for batch in file.iter_batches(CHUNK_ROWS, columns=[column.name for column in columns], use_threads=False):
            yield pa.Table.from_batches([batch])


READERS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}


def _holds(kind: pa.DataType, column: Column) -> bool:
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


def _typed(
    raw: pa.Table, before: int, source: FileSource, columns: tuple[Column, ...], country: str | None
) -> pa.Table:  # fmt: skip
    """A chunk in the spec's types, with the country of the file's name; ``before``: the file's rows before it."""
    made = {column.name: _typed_column(raw[column.name].combine_chunks(), column, before) for column in columns}
    for column in columns:
        required = not column.nullable or column.name in (*source.key, source.event_time)
        if required and made[column.name].null_count:
            row = before + 1 + made[column.name].is_null().to_pylist().index(True)
            raise FileRefused(f"Row {row} has no {column.name}.")
    if country is not None:
        made[source.country] = pa.array([country] * raw.num_rows, pa.string())
    return pa.table({column.name: made[column.name] for column in source.file_columns})


def _typed_column(values: pa.Array, column: Column, before: int) -> pa.Array:
    if pa.types.is_string(values.type) and column.type != "string":
        values = pc.if_else(pc.is_in(values, pa.array(NO_VALUE)), pa.scalar(None, pa.string()), values)
    try:
        made = _cast(values, column)
    except pa.ArrowException:
        row = next(row for row in range(len(values)) if not _can_cast(values.slice(row, 1), column))
        raise _no_such(values[row].as_py(), column, before + 1 + row) from None
    if column.type == "float64":
        made = pc.if_else(pc.is_nan(made), pa.scalar(None, pa.float64()), made)
        _check(pc.is_inf(made), before, f"{column.name} is infinite")
    if column.type == "string":
        _check(pc.greater(pc.binary_length(made), LONGEST_ROW), before, f"{column.name} is longer than {LONGEST_ROW:,} bytes")
    return made


def _cast(values: pa.Array, column: Column) -> pa.Array:
    made = values.cast(TYPES[column.type], safe=not pa.types.is_timestamp(values.type))
    made.validate(full=column.type == "string")
    return made


def _can_cast(values: pa.Array, column: Column) -> bool:
    try:
        _cast(values, column)
    except pa.ArrowException:
        return False
    return True


def _check(wrong: pa.Array, before: int, what: str) -> None:
    if pc.any(wrong).as_py():
        raise FileRefused(f"In row {before + 1 + wrong.to_pylist().index(True)}, {what}.")


def _no_such(value: Any, column: Column, row: int) -> FileRefused:
    return FileRefused(f"In row {row}, {column.name} is {_shown(ascii(value))}, not {NEEDS[column.type]}.")


def _shown(text: str, length: int = SHOWN) -> str:
    printable = "".join(sign if sign.isprintable() else "�" for sign in text[:length])
    return printable if len(text) <= length else f"{printable}…"
