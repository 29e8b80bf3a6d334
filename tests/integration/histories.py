"""A table that many transactions write at once, and the truth about it: what the lake has to hold after each ingest."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg2
from psycopg2.extensions import connection as Connection
from toolbox import START

COUNTRIES = ("Britain", "France", "Germany")
MAX_OPEN = 4
UNREADABLE = ("3 cm", "NaN kg", "1e999x", "")
TABLE = """
CREATE TABLE sightings (
    id bigint PRIMARY KEY,
    changed_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    country text NOT NULL,
    length text,
    weight double precision,
    is_withdrawn boolean NOT NULL DEFAULT false);
CREATE INDEX ON sightings (changed_at);
CREATE TABLE revisions (number bigserial, LIKE sightings);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revisions (id, changed_at, seen_at, country, length, weight, is_withdrawn) SELECT NEW.*;
    RETURN NEW;
END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE ON sightings FOR EACH ROW EXECUTE FUNCTION remember();
"""
INSERT = """
INSERT INTO sightings (id, changed_at, seen_at, country, length, weight)
VALUES (%s, clock_timestamp(), %s, %s, %s, %s)"""


@dataclass
class Writers:
    """Transactions of a table that are open side by side, and what each has changed."""

    dsn: str
    chance: random.Random
    next_id: int = 1
    open: list[Connection] = field(default_factory=list)

    def begin(self) -> Connection:
        """One of the open transactions, or a further one."""
        if self.open and (len(self.open) == MAX_OPEN or self.chance.random() < 0.6):
            return self.chance.choice(self.open)

        connection = psycopg2.connect(self.dsn, options="-c lock_timeout=1")
        self.open.append(connection)
        return connection

    def end(self) -> None:
        """Commit or roll back one of them."""
        if not self.open:
            return

        connection = self.open.pop(self.chance.randrange(len(self.open)))
        if self.chance.random() < 0.8:
            connection.commit()
        connection.close()

    def end_all(self) -> None:
        """Commit or roll back all of them."""
        while self.open:
            self.end()

    def insert(self) -> None:
        """Some new rows in one transaction."""
        with self.begin().cursor() as cursor:
            for _ in range(self.chance.randint(1, 6)):
                values = (self.next_id, self.seen_at(), self.country(), self.length(), 1.0)
                cursor.execute(INSERT, values)
                self.next_id += 1

    def update(self, assignment: str, *values: Any) -> None:
        """Change some committed rows; a row that another transaction has locked stays as it is."""
        keys = [self.chance.randrange(1, self.next_id + 1) for _ in range(self.chance.randint(1, 3))]
        text = f"UPDATE sightings SET changed_at = clock_timestamp(), {assignment} WHERE id = ANY(%s)"
        connection = self.begin()
        with connection.cursor() as cursor:
            cursor.execute("SAVEPOINT before")
            try:
                cursor.execute(text, (*values, keys))
            except psycopg2.errors.LockNotAvailable:
                cursor.execute("ROLLBACK TO before")

    def seen_at(self) -> datetime:
        return START + timedelta(days=self.chance.uniform(0, 40))

    def country(self) -> str:
        return self.chance.choice(COUNTRIES)

    def length(self) -> str:
        return f"{self.chance.uniform(0, 10):.6f}"


def committed(dsn: str) -> pd.DataFrame:
    """The table's rows as anybody sees them now, by id."""
    return _frame(dsn, "SELECT * FROM sightings").set_index("id")


def revisions(dsn: str) -> pd.DataFrame:
    """Every revision that was ever committed, in the order in which they were written."""
    return _frame(dsn, "SELECT * FROM revisions ORDER BY number")


def _frame(dsn: str, query: str) -> pd.DataFrame:
    connection = psycopg2.connect(dsn, options="-c timezone=UTC")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            names = [column.name for column in cursor.description or ()]
            return pd.DataFrame(cursor.fetchall(), columns=names)
    finally:
        connection.close()


@contextmanager
def killed_at(module: Any, name: str, number: int) -> Iterator[None]:
    """In this process: the n-th call of a module's function kills the process, before it does anything."""
    original: Callable[..., Any] = getattr(module, name)
    left = number

    def counting(*given: Any, **values: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*given, **values)

    setattr(module, name, counting)
    try:
        yield
    finally:
        setattr(module, name, original)


def in_process(work: Callable[[], Any]) -> int:
    """Run ``work`` in a process of its own; its exit code, negative where a signal killed it."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode
