"""Reads a source's fresh rows from its Postgres table, never past what an open transaction could still add."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO

import psycopg2
import pyarrow as pa
import pyarrow.csv as pacsv
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

from perennial.errors import SourceError, SourceMismatch
from perennial.shell.database import fetch_one
from perennial.shell.values import LONGEST_TEXT, Raw, Reading, reading
from perennial.spec import Source

CHUNK_ROWS, CHUNK_BYTES = 25_000, 8 << 20
TIMESTAMPTZ = 1184  # its number in every PostgreSQL


@contextmanager
def connected(dsn: str, source: Source) -> Iterator[Connection]:
    """A connection to the source's database. Raises SourceError, naming source and connection."""
    try:
        connection = psycopg2.connect(dsn, options="-c timezone=UTC", connect_timeout=10)
    except psycopg2.OperationalError as error:
        raise SourceError(
            f"Source {source.name} cannot be reached through connection {source.connection}: {str(error).strip()}."
        ) from error
    try:
        yield connection
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise SourceError(f"Source {source.name} went away while it was read: {str(error).strip()}.") from error
    finally:
        connection.close()


def safe_bound(connection: Connection, source: Source) -> tuple[datetime, datetime]:
    """``(bound, clock)``: no row that commits from now on has a ``changed_at`` before ``bound``; the source's own time.

    The bound stays behind the clock by ``max_commit_lag``, and behind the start of every open transaction. Raises
    SourceMismatch when the role may not see the transactions of others.
    """
    with connection:
        row = fetch_one(connection, "safe_bound", lag=source.max_commit_lag)
    bound, clock, hidden = row
    if hidden:
        raise SourceMismatch(
            f"Source {source.name}: the role of connection {source.connection} cannot see other sessions' transactions, "
            "so rows that commit late could be lost. GRANT pg_read_all_stats to it."
        )
    return bound, clock


def undated_rows(connection: Connection, source: Source) -> int:
    """How many rows have no ``changed_at``: they belong to no interval, so no landing ever takes them."""
    text = sql.SQL("SELECT count(*) FROM {table} WHERE {changed_at} IS NULL")
    with _as_mismatches(source), connection, connection.cursor() as cursor:
        cursor.execute(text.format(table=_table_of(source), changed_at=sql.Identifier(source.changed_at)))
        return sum(number for (number,) in cursor)


def check_moments(connection: Connection, source: Source) -> None:
    """Raise SourceMismatch where a timestamp of the spec is not a ``timestamptz`` in the table: its zone would be a guess."""
    names = [column.name for column in source.columns if column.type == "timestamp"]
    text = sql.SQL("SELECT {columns} FROM {table} LIMIT 0")
    with _as_mismatches(source), connection, connection.cursor() as cursor:
        cursor.execute(text.format(table=_table_of(source), columns=sql.SQL(", ").join(map(sql.Identifier, names))))
        wrong = [column.name for column in cursor.description or () if column.type_code != TIMESTAMPTZ]
    if wrong:
        raise SourceMismatch(
            f"Source {source.name}: {', '.join(wrong)} of table {source.table} does not name its zone, so its moments would be "
            "guessed. Make it timestamptz, in the table or by a view that says which zone it is in. Nothing was landed."
        )


def extract(connection: Connection, source: Source, lower: datetime, upper: datetime) -> Iterator[Reading]:
    """Rows with ``lower <= changed_at < upper``, by country and event time, in chunks; those that cannot be read as texts.

    All values come as PostgreSQL writes them, and lie in a local file until they are read: memory holds a chunk. Raises
    SourceMismatch when the table lacks a column.
    """
    with tempfile.TemporaryFile(prefix="perennial-") as file:
        for size in _copied(connection, source, lower, upper, file):
            raw = _parsed(file.read(size), source)
            yield reading(raw, source.columns, required=())


def _copied(connection: Connection, source: Source, lower: datetime, upper: datetime, file: IO[bytes]) -> list[int]:
    """Write the rows into a file, and go back to its start; returns the sizes of chunks of whole rows."""
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    chunks = _Chunks(file)
    with _as_mismatches(source), connection, connection.cursor() as cursor:
        fetch_one(connection, "exact_texts")
        is_plain = connection.info.parameter_status("server_encoding") == "SQL_ASCII"  # any bytes, which nothing can convert
        encoding = "SQL_ASCII" if is_plain else "UTF8"
        cursor.copy_expert(_copy(source, lower, upper, encoding), chunks)
    file.seek(0)
    return [*chunks.sizes, chunks.size]


@dataclass
class _Chunks:
    """Takes rows one by one, as PostgreSQL's library hands them over, and counts them into chunks."""

    file: IO[bytes]
    sizes: list[int] = field(default_factory=list)
    size: int = 0
    rows: int = 0

    def write(self, row: bytes) -> None:
        """Append a row."""
        self.file.write(row)
        self.size, self.rows = self.size + len(row), self.rows + 1
        if self.rows == CHUNK_ROWS or self.size >= CHUNK_BYTES:
            self.sizes.append(self.size)
            self.size = self.rows = 0


def _parsed(data: bytes, source: Source) -> Raw:
    """A chunk of rows with all values as bytes; an empty one that is not quoted is NULL."""
    names = [column.name for column in source.columns]
    numbered = [str(number) for number in range(len(names))]  # a name may be there twice for all that CSV knows
    if not data:
        return Raw(columns={name: pa.nulls(0, pa.binary()) for name in names})
    table = pacsv.read_csv(
        pa.BufferReader(data),
        read_options=pacsv.ReadOptions(column_names=numbered, block_size=len(data) + 1, use_threads=False),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(numbered, pa.binary()), null_values=[""], strings_can_be_null=True,
            quoted_strings_can_be_null=False, check_utf8=False,
        ),
    )  # fmt: skip
    return Raw(columns={name: table[number].combine_chunks() for name, number in zip(names, numbered, strict=True)})


@contextmanager
def _as_mismatches(source: Source) -> Iterator[None]:
    try:
        yield
    except (errors.UndefinedColumn, errors.UndefinedTable, errors.InsufficientPrivilege, errors.DataError) as error:
        raise SourceMismatch(
            f"Source {source.name} is not as {source.where} says: {str(error).splitlines()[0]}. "
            "Mend the table or the spec; nothing was landed."
        ) from error


def _table_of(source: Source) -> sql.Identifier:
    return sql.Identifier(*source.table.split("."))


def _copy(source: Source, lower: datetime, upper: datetime, encoding: str) -> sql.Composed:
    """Texts of which no more is read than tells that they are too long."""
    columns = sql.SQL(", ").join(
        sql.SQL("left({}::text, {})").format(sql.Identifier(column.name), sql.Literal(LONGEST_TEXT + 1))
        for column in source.columns
    )
    order = [source.country, source.event_time, *source.key, source.changed_at]
    text = (
        "COPY (SELECT {columns} FROM {table} WHERE {changed_at} >= {lower} AND {changed_at} < {upper} ORDER BY {order}) "
        "TO STDOUT (FORMAT csv, ENCODING {encoding})"
    )
    return sql.SQL(text).format(
        columns=columns,
        table=_table_of(source),
        changed_at=sql.Identifier(source.changed_at),
        lower=sql.Literal(lower),
        upper=sql.Literal(upper),
        encoding=sql.Literal(encoding),
        order=sql.SQL(", ").join(map(sql.Identifier, order)),
    )
