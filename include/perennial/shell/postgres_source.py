"""Reads a source's fresh rows from its Postgres table, never past what an open transaction could still add."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg2
import pyarrow as pa
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

from perennial.errors import SourceError, SourceMismatch
from perennial.shell.database import fetch_one
from perennial.shell.lake import columns_of
from perennial.spec import Source

CASTS = {"string": "text", "int64": "int8", "float64": "float8", "bool": "bool", "timestamp": "timestamptz"}
CHUNK_ROWS = 25_000
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


def extract(connection: Connection, source: Source, lower: datetime, upper: datetime) -> Iterator[pa.Table]:
    """Rows with ``lower <= changed_at < upper``, by country and event time, in chunks.

    Bounded memory: a server-side cursor in one repeatable-read transaction. Raises SourceMismatch when the table lacks a
    column or holds a value that does not fit its type.
    """
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with _as_mismatches(source), connection, connection.cursor(name=f"perennial_{source.name}") as cursor:
        cursor.itersize = CHUNK_ROWS
        cursor.execute(_select(source), {"lower": lower, "upper": upper})
        while rows := cursor.fetchmany(CHUNK_ROWS):
            yield _table(rows, source)


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


def _select(source: Source) -> sql.Composed:
    columns = sql.SQL(", ").join(
        sql.SQL("{}::{}").format(sql.Identifier(column.name), sql.SQL(CASTS[column.type])) for column in source.columns
    )
    order = [source.country, source.event_time, *source.key, source.changed_at]
    text = "SELECT {columns} FROM {table} WHERE {changed_at} >= %(lower)s AND {changed_at} < %(upper)s ORDER BY {order}"
    return sql.SQL(text).format(
        columns=columns,
        table=_table_of(source),
        changed_at=sql.Identifier(source.changed_at),
        order=sql.SQL(", ").join(map(sql.Identifier, order)),
    )


def _table(rows: list[Any], source: Source) -> pa.Table:
    schema = columns_of(source)
    arrays = [pa.array(values, type=field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
