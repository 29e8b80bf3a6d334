"""Worlds move by turns: all up to a moment is written in one transaction, which also records the moment."""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

TURN_LOCK = 0x72657461
REPLAY = "CREATE TABLE IF NOT EXISTS replay (position timestamptz NOT NULL);"


def prepare(dsn: str, tables: str) -> None:
    """Create a world's tables where they are missing."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(tables + REPLAY)


def position(dsn: str) -> datetime | None:
    """Up to which moment the world has been written; None before its first turn."""
    with closing(psycopg2.connect(dsn)) as connection:
        return _position(connection)


def advance(dsn: str, until: datetime, write: Callable[[Any, datetime | None], int]) -> int:
    """``write(cursor, since)`` what comes after the position, and move it; returns the rows. Repeating it adds nothing."""
    with closing(psycopg2.connect(dsn)) as connection:
        _await_turn(connection)
        since = _position(connection)
        if since is not None and since >= until:
            return 0
        with connection, connection.cursor() as cursor:
            rows = write(cursor, since)
            cursor.execute("INSERT INTO replay (position) VALUES (%s)", (until,))
    return rows


def _await_turn(connection: Connection) -> None:
    # Of the session, not of the transaction: now() is a transaction's start, which must follow the other's commit.
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (TURN_LOCK,))


def _position(connection: Connection) -> datetime | None:
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT max(position) FROM replay")
        row = cursor.fetchone()
        return row[0] if row else None
