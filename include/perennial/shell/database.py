"""Connections to Perennial's PostgreSQL, its numbered migrations, and the named queries of the ``.sql`` files."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any

import psycopg2
from psycopg2 import extensions, extras
from psycopg2.extras import NamedTupleCursor

from perennial.errors import RegistryError, RegistryLost, SanityError
from perennial.shell.forks import end_unless, keep_from_forks

# Rows are looked up by key: no compilation of plans, and no scan because an index were dear to read.
# A host that vanishes without a word loses its locks after a minute; a client that lost its server knows sooner.
OPTIONS = (
    "-c search_path=perennial -c timezone=UTC -c jit=off -c random_page_cost=1.1 -c tcp_keepalives_idle=30 "
    "-c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)
MIGRATION_LOCK = 0x7065726E
QUERY = re.compile(r"^-- (\w+): .*$", re.MULTILINE)

__all__ = ["Connection", "Json", "connect", "copy_into", "fetch", "fetch_one", "migrate", "moment", "run", "transaction"]


class Json(extras.Json):
    """A value as JSON. Raises SanityError for a number that is not finite: JSON has none, and nobody could read it again."""

    def dumps(self, obj: Any) -> str:
        """The text of the value."""
        try:
            return json.dumps(obj, allow_nan=False)
        except ValueError as error:
            raise SanityError(f"A number that is not finite cannot be recorded: {obj}. Look at the gate's bounds.") from error


class Connection(extensions.connection):
    """A session of the process that opened it; a fork of that process ends when it uses it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.owner = os.getpid()
        keep_from_forks(self)

    def cursor(self, *given: Any, **named: Any) -> Any:
        """A cursor, for the owner."""
        end_unless(self.owner)
        return super().cursor(*given, **named)


def connect(dsn: str, waits_for_disk: bool = True) -> Connection:
    """An autocommit connection whose search path is Perennial's schema. Raises RegistryLost, naming the server.

    Without ``waits_for_disk`` a crash of the server may undo the last half second, nothing before it, and nothing that a
    later statement that waits has followed. Statements whose effect leaves the database wait by themselves.
    """
    options = OPTIONS if waits_for_disk else f"{OPTIONS} -c synchronous_commit=off"
    try:
        connection: Connection = psycopg2.connect(
            dsn,
            connection_factory=Connection,
            cursor_factory=NamedTupleCursor,
            options=options,
            connect_timeout=10,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
    except psycopg2.OperationalError as error:
        raise RegistryLost(
            f"Perennial's database cannot be reached: {str(error).strip()}. Check the connection perennial_db and that "
            "PostgreSQL is up. Nothing was changed."
        ) from error
    connection.autocommit = True
    return connection


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All statements inside commit together, or none does."""
    connection.autocommit = False
    try:
        with connection:
            yield
    finally:
        if not connection.closed:
            connection.autocommit = True


@contextmanager
def moment(connection: Connection) -> Iterator[None]:
    """All queries inside see the database as it is at the first of them, and change nothing."""
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
    try:
        with connection:
            yield
    finally:
        if not connection.closed:
            connection.set_session(isolation_level="DEFAULT", readonly=False, autocommit=True)


@contextmanager
def _as_registry_errors(connection: extensions.connection) -> Iterator[None]:
    try:
        yield
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        said = str(error).strip()
        if connection.closed or error.pgcode is None:
            raise RegistryLost(f"Perennial's database went away: {said}. A retry goes on from here.") from error
        raise RegistryError(f"Perennial's database could not carry out a statement: {said}. Nothing was changed.") from error
    except psycopg2.ProgrammingError as error:
        raise RegistryError(f"Perennial's database cannot be read: {str(error).splitlines()[0]}. Was it migrated?") from error


def fetch(connection: extensions.connection, query: str, **parameters: Any) -> list[Any]:
    """Rows of a named query as named tuples."""
    with _as_registry_errors(connection), connection.cursor() as cursor:
        cursor.execute(queries()[query], parameters)
        return list(cursor.fetchall()) if cursor.description else []


def fetch_one(connection: extensions.connection, query: str, **parameters: Any) -> Any:
    """The first row of a named query, or None."""
    rows = fetch(connection, query, **parameters)
    return rows[0] if rows else None


def run(connection: Connection, query: str, **parameters: Any) -> int:
    """Run a named query; returns how many rows it touched."""
    with _as_registry_errors(connection), connection.cursor() as cursor:
        cursor.execute(queries()[query], parameters)
        return int(cursor.rowcount)


def copy_into(connection: Connection, query: str, data: bytes) -> None:
    """Run a named COPY … FROM STDIN with its data."""
    with _as_registry_errors(connection), connection.cursor() as cursor:
        cursor.copy_expert(queries()[query], BytesIO(data))


@cache
def queries() -> dict[str, str]:
    """Every named query of ``queries/*.sql``."""
    found: dict[str, str] = {}
    for file in (resources.files(__package__) / "queries").iterdir():
        if file.name.endswith(".sql"):
            parts = QUERY.split(file.read_text())
            found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


def migrate(dsn: str) -> list[str]:
    """Apply the migrations that the database lacks, in one transaction each; returns their names. Safe to race."""
    connection = connect(dsn)
    try:
        with transaction(connection), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
            cursor.execute("CREATE SCHEMA IF NOT EXISTS perennial")
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
            )
            cursor.execute("SELECT name FROM migrations")
            applied = {name for (name,) in cursor.fetchall()}
            missing = [(name, text) for name, text in migrations() if name not in applied]
            for name, text in missing:
                cursor.execute(text)
                cursor.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
        return [name for name, _ in missing]
    finally:
        connection.close()


def migrations() -> list[tuple[str, str]]:
    """Name and text of every migration, in order."""
    files = (resources.files(__package__) / "migrations").iterdir()
    return sorted((file.name, file.read_text()) for file in files if file.name.endswith(".sql"))
