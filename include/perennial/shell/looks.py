"""Looks at a table or a file of which there is no spec yet: its columns, in which of a spec's types, and some rows."""

import csv
import io
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg2 import sql
from psycopg2.extras import NamedTupleCursor

from perennial.errors import FileRefused, RequestError, SourceError
from perennial.proposal import Found, FoundColumn
from perennial.shell import file_source
from perennial.shell.database import queries
from perennial.shell.store import Store
from perennial.shell.values import NO_VALUE, reading, typed
from perennial.spec import COLUMN_TYPES, FILE_NAMES, KEPT_ASIDE_WITH, REMOVED, Column

SAMPLE = 200_000  # rows
TYPES = {
    "int2": "int64", "int4": "int64", "int8": "int64", "float4": "float64", "float8": "float64", "numeric": "float64",
    "bool": "bool", "timestamptz": "timestamp", "text": "string", "varchar": "string", "bpchar": "string", "uuid": "string",
    "citext": "string", "name": "string", "inet": "string", "date": "string",
}  # fmt: skip
ZONELESS = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
WRITE_ZONE = "a moment without its zone: write it as 2026-01-31T10:00:00Z"
CAST_ZONE = "a moment without its zone: make it timestamptz, or read a view that says AT TIME ZONE"
CODE = r"^-?0[0-9]+$"  # digits of a code, whose zeros count
FRACTION = r"\."
EXACT = ("int64", "bool")  # types of which every value has to be
MOST_WRONG = 0.01  # share of values that a column of numbers or moments may hold beside them
BY_VALUE = {bool: "bool", int: "int64", float: "float64", str: "string"}


def look_at_table(dsn: str, connection: str, table: str) -> Found:
    """A table's columns, its unique keys, and some rows of it, through the Connection of that name.

    Raises SourceError where it leads nowhere, and RequestError where there is nothing to be seen.
    """
    try:
        with closing(psycopg2.connect(dsn)) as database:
            database.set_session(readonly=True)
            return _table(database, table)
    except psycopg2.OperationalError as error:
        raise SourceError(f"Connection {connection} does not lead to a database: {str(error).strip()}.") from error


def _table(database: Any, table: str) -> Found:
    identifier = sql.Identifier(*table.split("."))
    named = identifier.as_string(database)
    with _named_errors(table):
        columns = [_column_of(row) for row in _ask(database, "columns_of", table=named)]
        keys = [tuple(row.names) for row in _ask(database, "unique_keys_of", table=named)]
        (size,) = _ask(database, "size_of", table=named)
        rows = _some_rows(database, identifier, size, columns)
    if rows.empty:
        raise RequestError(f"Table {table} is empty: what its columns hold is guessed from rows.")
    seen = f"{len(rows):,} rows"
    if len(rows) >= SAMPLE:
        seen = f"{len(rows):,} of about {size.rows:,.0f} rows"
    return Found(columns=tuple(columns), rows=rows, seen=seen, keys=tuple(keys), has_revisions=True)


@contextmanager
def _named_errors(table: str) -> Iterator[None]:
    try:
        yield
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName) as error:
        raise RequestError(f"There is no table {table}: {str(error).splitlines()[0]}.") from error
    except psycopg2.errors.InsufficientPrivilege as error:
        raise RequestError(f"The role may not read {table}: GRANT SELECT ON {table} to it.") from error


def _column_of(row: Any) -> FoundColumn:
    kind = TYPES.get("text" if row.is_enum else row.base, "")
    note = f": {CAST_ZONE}" if row.base == "timestamp" else ""
    if row.name in (REMOVED, *KEPT_ASIDE_WITH):
        kind, note = "", ": the name is reserved"
    return FoundColumn(name=row.name, type=kind, kind=row.kind, is_required=row.is_required, note=note)


def _some_rows(database: Any, table: sql.Identifier, size: Any, columns: Sequence[FoundColumn]) -> pd.DataFrame:
    """Rows from all over a large table, and the first ones of a view."""
    usable = [column for column in columns if column.type]
    text = sql.SQL("SELECT {columns} FROM {table}{part} LIMIT {most}").format(
        columns=sql.SQL(", ").join(map(_cast, usable)), table=table, part=_part(size), most=sql.Literal(SAMPLE)
    )
    with database.cursor() as cursor:
        cursor.execute(text)
        rows = cursor.fetchall()
    return _framed({column.name: [row[place] for row in rows] for place, column in enumerate(usable)}, usable)


def _part(size: Any) -> sql.Composable:
    """Of a table that is larger than the sample, pages by chance, with some to spare."""
    if not size.is_stored or size.rows <= SAMPLE:
        return sql.SQL("")
    percent = min(100, 110 * SAMPLE / size.rows)
    return sql.SQL(" TABLESAMPLE SYSTEM ({})").format(sql.Literal(percent))


def _cast(column: FoundColumn) -> sql.Composable:
    """A column as a value that Python has in the spec's type."""
    form = {"string": "{}::text", "float64": "{}::float8"}.get(column.type, "{}")
    return sql.SQL(form).format(sql.Identifier(column.name))


def _framed(values: dict[str, list[Any]], columns: Sequence[FoundColumn]) -> pd.DataFrame:
    """Values in pandas' types of the spec's."""
    kinds: dict[str, Any] = {"int64": "Int64", "bool": "boolean", "float64": "float64", "string": "object"}
    made = {}
    for column in columns:
        series = pd.Series(values[column.name], dtype="object")
        is_time = column.type == "timestamp"
        made[column.name] = pd.to_datetime(series, utc=True, errors="coerce") if is_time else series.astype(kinds[column.type])
    return pd.DataFrame(made)


def _ask(database: Any, query: str, **parameters: Any) -> list[Any]:
    with database.cursor(cursor_factory=NamedTupleCursor) as cursor:
        cursor.execute(queries()[query], parameters)
        return list(cursor.fetchall())


def format_of(key: str) -> str:
    """A file's format by its name. Raises RequestError for a name that none has."""
    name = key.rpartition("/")[2]
    found = next((kind for kind, pattern in FILE_NAMES.items() if re.fullmatch(pattern, name)), "")
    if not found:
        raise RequestError(f"{name} is no file of a known format. Known are .csv, .jsonl (both also .gz) and .parquet.")
    return found


def look_at_file(store: Store, key: str) -> Found:
    """A file's columns and its first rows. Raises ObjectMissing, FileRefused and RequestError."""
    kind = format_of(key)
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        path = Path(folder) / key.rpartition("/")[2]
        store.get_file(key, path)
        if path.stat().st_size == 0:
            raise FileRefused(f"{key} is empty.")
        columns = [_without_reserved(column) for column in LOOKS[kind](path)]
        usable = [column for column in columns if column.type]
        rows = _first_rows(path, kind, usable) if usable else pd.DataFrame()
    if rows.empty:
        raise RequestError(f"{key} has no row that can be read: what its columns hold is guessed from rows.")
    return Found(columns=tuple(columns), rows=rows, seen=f"{len(rows):,} rows")


def _without_reserved(column: FoundColumn) -> FoundColumn:
    if column.name not in (REMOVED, *KEPT_ASIDE_WITH):
        return column
    return FoundColumn(name=column.name, type="", kind=column.kind, note=": the name is reserved")


def _chunks(path: Path, kind: str, columns: Sequence[Column]) -> Iterator[Any]:
    """What a file's reader yields, up to SAMPLE rows."""
    seen = 0
    for raw in file_source.READERS[kind](path, path.name, tuple(columns)):
        yield raw
        seen += raw.rows
        if seen >= SAMPLE:
            return


def _first_rows(path: Path, kind: str, columns: Sequence[FoundColumn]) -> pd.DataFrame:
    wanted = [Column(column.name, column.type) for column in columns]
    parts = [reading(raw, wanted, (), NO_VALUE).rows for raw in _chunks(path, kind, wanted)]
    rows = pa.concat_tables(parts)
    return _framed({name: rows[name].to_pylist() for name in rows.column_names}, columns)


def _csv_columns(path: Path) -> list[FoundColumn]:
    """By the values: a CSV file says nothing of its columns but their names."""
    with closing(file_source.opened(path, path.name)) as file:
        first = file.readline(file_source.LONGEST_ROW)
    header = next(csv.reader(io.StringIO(first.decode("utf-8-sig"))), [])
    texts = [Column(name, "string") for name in header]
    raws = [raw for raw in _chunks(path, "csv", texts) if not raw.broken]
    return [_by_texts(name, pa.concat_arrays([raw.columns[name] for raw in raws])) for name in header if raws]


def _by_texts(name: str, values: pa.Array) -> FoundColumn:
    """The narrowest type that holds all texts, or almost all of numbers and moments."""
    known = _without_missing(typed(values, Column(name, "string"))[0])
    if len(known) == 0:
        return FoundColumn(name=name, type="string", kind="text", note="no value was seen")
    for kind in _candidates(known):
        wrong = sum(len(places) for places in typed(values, Column(name, kind), NO_VALUE)[1].values())
        most = 0 if kind in EXACT else MOST_WRONG * len(known)
        if wrong <= most:
            note = f"{wrong:,} of {len(known):,} values are none: their rows will be kept aside" if wrong else ""
            return FoundColumn(name=name, type=kind, kind="text", note=note)
    is_zoneless = pc.all(pc.match_substring_regex(known, ZONELESS)).as_py()
    return FoundColumn(name=name, type="string", kind="text", note=f": {WRITE_ZONE}" if is_zoneless else "")


def _without_missing(texts: pa.Array) -> pa.Array:
    is_missing = pc.or_(pc.is_in(texts, pa.array(NO_VALUE)), pc.is_null(texts))
    return texts.filter(pc.invert(is_missing))


def _candidates(texts: pa.Array) -> tuple[str, ...]:
    """The types that texts may be of, the narrowest first: digits of a code are none, a measure is no whole number."""
    if _any_match(texts, CODE):
        return ()
    return ("float64", "timestamp") if _any_match(texts, FRACTION) else (*EXACT, "float64", "timestamp")


def _any_match(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _jsonl_columns(path: Path) -> list[FoundColumn]:
    """By the values of the first rows: whatever several rows call by one name is one column."""
    kinds: dict[str, set[str]] = {}
    texts: dict[str, list[str]] = {}
    with closing(file_source.opened(path, path.name)) as file:
        lines = (file.readline(file_source.LONGEST_ROW) for _ in range(SAMPLE))
        for line in _until_end(lines):
            for name, value in _object(line).items():
                kinds.setdefault(name, set()).add(BY_VALUE.get(type(value), ""))
                texts.setdefault(name, []).extend([value] if isinstance(value, str) else [])
    return [_by_values(name, found, texts[name]) for name, found in kinds.items()]


def _object(line: bytes) -> dict[str, Any]:
    """What a line holds; nothing where it is no object: its row will be kept aside."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return {name: value for name, value in row.items() if value is not None} if isinstance(row, dict) else {}


def _until_end(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines up to the end of their file."""
    for line in lines:
        if not line:
            return
        yield line


def _by_values(name: str, kinds: set[str], texts: list[str]) -> FoundColumn:
    if kinds == {"string"}:
        as_texts = _by_texts(name, pa.array([text.encode() for text in texts], pa.binary()))
        kind = "timestamp" if as_texts.type == "timestamp" else "string"
        return FoundColumn(name=name, type=kind, kind="text", note=as_texts.note if "zone" in as_texts.note else "")
    number = "float64" if kinds <= {"int64", "float64"} and "float64" in kinds else ""
    only = next(iter(kinds)) if len(kinds) == 1 else number
    return FoundColumn(name=name, type=only, kind="a list, an object, or values of several types")


def _parquet_columns(path: Path) -> list[FoundColumn]:
    """By the file's own types."""
    found = []
    for each in pq.read_schema(path):
        fit = next((kind for kind in _ORDER if file_source.holds(each.type, Column(each.name, kind))), "")
        is_zoneless = pa.types.is_timestamp(each.type) and each.type.tz is None
        found.append(
            FoundColumn(
                name=each.name,
                type=fit,
                kind=str(each.type),
                is_required=not each.nullable,
                note=f": {WRITE_ZONE}" if is_zoneless else "",
            )
        )
    return found


_ORDER = ("int64", *(kind for kind in COLUMN_TYPES if kind != "int64"))
LOOKS = {"csv": _csv_columns, "jsonl": _jsonl_columns, "parquet": _parquet_columns}
