"""Reads a source's fresh rows from its Postgres table, and sees who could still add some."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

import psycopg2
import pyarrow as pa
import pyarrow.csv as pacsv
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn
from psycopg2.extras import NamedTupleCursor

from perennial.errors import SourceError, SourceMismatch
from perennial.shell.database import fetch_one, queries
from perennial.shell.values import LONGEST_TEXT, Raw, Reading, deletion_of, reading
from perennial.spec import Source

CHUNK_ROWS, CHUNK_BYTES = 25_000, 8 << 20
TIMESTAMPTZ = 1184  # its number in every PostgreSQL
FIRST_DATE = datetime(1900, 1, 1, tzinfo=UTC)  # where a source's first landing begins
MOST_STRAYS = 10_000
REPLAY_SECONDS = 20
STRAYS = """
SELECT count(*) FILTER (WHERE at IS NULL), count(*) FILTER (WHERE at < {first}), count(*) FILTER (WHERE at > {clock}),
       (min(at) FILTER (WHERE at > {clock}))::text
FROM ((SELECT {changed_at} AS at FROM {table} WHERE {changed_at} IS NULL LIMIT {most})
      UNION ALL (SELECT {changed_at} FROM {table} WHERE {changed_at} < {first} LIMIT {most})
      UNION ALL (SELECT {changed_at} FROM {table} WHERE {changed_at} > {clock} ORDER BY {changed_at} LIMIT {most})) AS odd
"""

# A host that vanishes is noticed within a minute, while data are under way and while an answer is awaited. What a Connection
# says itself goes before these.
NETWORK = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# One statement is one fetch; the first sorts a whole interval, which may be a source's whole past. A table that is locked is
# tried again by the next ingest; a reader that stands still lets the source's vacuum go on.
SESSION = (
    "-c statement_timeout=1h -c lock_timeout=30s -c idle_in_transaction_session_timeout=10min "
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)


@dataclass(frozen=True, kw_only=True)
class OpenTransaction:
    """One that may still commit rows: whose it is, and since when it is open, or for a prepared one, prepared."""

    who: str
    since: datetime
    is_prepared: bool = False


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at a server has found: its clock before and after, and the open transactions between.

    ``server``: its system identifier and timeline, where it says them. ``lsn``: what is committed without being among the
    open transactions is in the log before it; asked for only where a standby is to reach it.
    """

    clock: datetime
    seen_at: datetime
    server: str
    session: OpenTransaction | None
    prepared: OpenTransaction | None
    lsn: str = ""


@contextmanager
def connected(dsn: str, source: Source, name: str = "") -> Iterator[Connection]:
    """A connection to the source's database, or to that behind the Connection ``name``. Raises SourceError, naming both."""
    name = name or source.connection
    given = parse_dsn(dsn)
    options = {**NETWORK, **given, "options": f"{SESSION} {given.get('options', '')} -c timezone=UTC"}
    try:
        connection = psycopg2.connect(**options)
    except psycopg2.OperationalError as error:
        raise SourceError(f"Source {source.name} cannot be reached through connection {name}: {str(error).strip()}.") from error
    try:
        yield connection
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise SourceError(f"Source {source.name} went away while it was read: {str(error).strip()}.") from error
    finally:
        connection.close()


def is_standby(connection: Connection) -> bool:
    """Whether the server follows another one, whose open transactions it does not show."""
    with connection:
        return bool(_ask(connection, "source_clock")[0].is_standby)


def look(connection: Connection, source: Source, name: str = "", *, with_lsn: bool = False) -> Look:
    """Look at all transactions of the database that may still write, through the Connection ``name``.

    Raises SourceMismatch where one of them cannot be looked into. Their order matters: a transaction is first open, then
    prepared, then in the log.
    """
    server = _server(connection)
    with _as_unknowable(source), connection:
        begun = _ask(connection, "source_clock")[0]
        sessions = _ask(connection, "open_transactions")
        prepared = _ask(connection, "prepared_transactions")
        lsn = _ask(connection, "written_up_to")[0].lsn if with_lsn else ""
        ended = _ask(connection, "source_clock")[0]
    for session in sessions:
        _refuse_unseen(session, source, name or source.connection)
    open_ones = [OpenTransaction(who=_named(row), since=row.since) for row in sessions]
    prepared_ones = [
        OpenTransaction(who=f"prepared transaction {row.gid} of {row.role}", since=row.since, is_prepared=True)
        for row in prepared
    ]
    return Look(
        clock=begun.clock,
        seen_at=ended.clock,
        server=server,
        session=next(iter(open_ones), None),
        prepared=next(iter(prepared_ones), None),
        lsn=lsn,
    )


def await_replay(connection: Connection, source: Source, primary: Look) -> str:
    """Wait a while until a standby shows all that its primary had committed at a look; returns what is still missing.

    Raises SourceMismatch where it is no standby of that primary.
    """
    system, _, timeline = primary.server.partition("/")
    deadline = time.monotonic() + REPLAY_SECONDS
    while True:
        with _as_unknowable(source), connection:
            state = _ask(connection, "replayed", lsn=primary.lsn, timeline=int(timeline or 0))[0]
        if state.system != system:
            raise SourceMismatch(
                f"Source {source.name}: connection {source.connection} leads to a standby, but not to one of the server behind "
                f"connection {source.primary}. Name its own primary. Nothing was landed."
            )
        if state.is_done and state.follows:
            return ""
        if time.monotonic() > deadline:
            what = "has not replayed what its primary has committed" if state.follows else "does not follow its primary"
            return f"the standby {what}: it shows what was committed up to {state.shown_up_to or 'no known time'}"
        time.sleep(0.1)


def check_feed(connection: Connection, source: Source) -> None:
    """Raise SourceMismatch where logical replication writes the table with ``changed_at`` of another server."""
    with _as_mismatches(source), connection:
        found = _ask(connection, "written_elsewhere", table=_table_of(source).as_string(connection))
    for row in found:
        raise SourceMismatch(
            f"Source {source.name}: logical replication writes table {row.relation}, and {source.changed_at} was given to its "
            "rows on another server, before they came here: those that come late would be lost. Read from the publisher, or "
            f"let a BEFORE trigger that is ENABLE ALWAYS give them {source.changed_at} here. Nothing was landed."
        )


@dataclass(frozen=True, kw_only=True)
class Strays:
    """Rows that no landing takes as they are, each counted up to MOST_STRAYS; ``first_future``: the earliest such date."""

    undated: int
    ancient: int
    future: int
    first_future: str | None


def is_indexed(connection: Connection, source: Source) -> bool:
    """Whether an index finds rows by their ``changed_at``, so that odd ones are counted without reading the others."""
    with _as_mismatches(source), connection:
        table = _table_of(source).as_string(connection)
        return bool(_ask(connection, "finds_dates", table=table, column=source.changed_at)[0].is_indexed)


def strays(connection: Connection, source: Source, clock: datetime) -> Strays:
    """Count the rows without ``changed_at``, those dated before the first landing of all, and those after the clock."""
    values = {"first": FIRST_DATE, "clock": clock, "most": MOST_STRAYS}
    text = sql.SQL(STRAYS).format(
        table=_table_of(source),
        changed_at=sql.Identifier(source.changed_at),
        **{name: sql.Literal(value) for name, value in values.items()},
    )
    with _as_mismatches(source), connection, connection.cursor() as cursor:
        cursor.execute(text)
        (undated, ancient, future, first_future) = cursor.fetchall()[0]
    return Strays(undated=undated, ancient=ancient, future=future, first_future=first_future)


def _ask(connection: Connection, query: str, **parameters: Any) -> list[Any]:
    """Rows of a named query, asked of a source's own database."""
    rows: Any = connection.cursor(cursor_factory=NamedTupleCursor)
    with rows as cursor:
        cursor.execute(queries()[query], parameters)
        return list(cursor.fetchall())


def _server(connection: Connection) -> str:
    """System identifier and timeline; empty on a service that does not say them."""
    try:
        with connection:
            row = _ask(connection, "source_server")[0]
    except (psycopg2.ProgrammingError, psycopg2.NotSupportedError, psycopg2.InternalError):
        return ""
    return f"{row.system}/{row.timeline or 0}"


def _refuse_unseen(session: Any, source: Source, name: str) -> None:
    if session.is_hidden:
        raise SourceMismatch(
            f"Source {source.name}: the role of connection {name} cannot see other sessions' transactions, "
            "so rows that commit late could be lost. GRANT pg_read_all_stats to it."
        )
    if session.is_untracked:
        raise SourceMismatch(
            f"Source {source.name}: {_named(session)} does not say since when its transaction is open, so its rows could be "
            f"lost. ALTER ROLE {session.role} RESET track_activities (or SET track_activities = on in its session, its "
            "database or the server), and let it connect again. Nothing was landed."
        )


def _named(session: Any) -> str:
    application = f", application {session.application}" if session.application else ""
    return f"pid {session.pid} (user {session.role}{application}, {session.kind}, {session.state})"


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
            yield reading(raw, source.columns, required=(), deletion=deletion_of(source))


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


@contextmanager
def _as_unknowable(source: Source) -> Iterator[None]:
    """Some services lack functions that PostgreSQL has."""
    try:
        yield
    except (errors.FeatureNotSupported, errors.UndefinedFunction, errors.InsufficientPrivilege) as error:
        raise SourceMismatch(
            f"Source {source.name}: its server does not say what is still open, or how far a standby has followed: "
            f"{str(error).splitlines()[0]}. Let connection {source.connection} lead to a primary that does. Nothing was landed."
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
