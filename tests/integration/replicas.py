"""A real PostgreSQL primary and a hot standby that streams from it.

    with replicated(folder) as pair:
        execute(pair.primary.dsn("postgres"), "CREATE TABLE t (id int)")
        pair.await_replay()                 # the standby shows what the primary has committed
        with pair.paused_replay(): ...      # the standby stands still
        pair.promote()                      # the standby is a primary of its own from here on

Both are `embedded.postgres.Postgres`: they have `dsn`, `connect`, `create_database`, `start` and `stop`.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from toolbox import execute

from embedded.postgres import PORT, USER, Postgres

SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "8",
    "max_prepared_transactions": "8",
    "max_connections": "40",
    "shared_buffers": "16MB",
    "fsync": "off",
    "wal_receiver_status_interval": "1",
    "wal_retrieve_retry_interval": "200ms",
}


def ask(dsn: str, statement: str, *values: Any) -> Any:
    """The first value of a statement's first row."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        row = cursor.fetchone()
    return row[0] if row else None


@dataclass(frozen=True)
class Pair:
    """A primary and its standby, both running."""

    primary: Postgres
    standby: Postgres

    def await_replay(self, timeout_seconds: float = 20) -> None:
        """Wait until the standby has replayed all that the primary has written so far."""
        lsn = ask(self.primary.dsn("postgres"), "SELECT pg_logical_emit_message(true, 'replay', '')::text")
        _await(self.standby, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'", timeout_seconds)

    @contextmanager
    def paused_replay(self) -> Iterator[None]:
        """The standby receives what the primary writes, and shows none of it."""
        execute(self.standby.dsn("postgres"), "SELECT pg_wal_replay_pause()")
        _await(self.standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'")
        try:
            yield
        finally:
            execute(self.standby.dsn("postgres"), "SELECT pg_wal_replay_resume()")

    def promote(self) -> Postgres:
        """Make the standby a primary on a timeline of its own, and wait until it takes writes; the former one runs on."""
        execute(self.standby.dsn("postgres"), "SELECT pg_promote(wait => true, wait_seconds => 20)")
        _await(self.standby, "SELECT NOT pg_is_in_recovery()")
        return self.standby


@contextmanager
def replicated(folder: Path) -> Iterator[Pair]:
    """A primary and its standby below a folder, stopped at the end."""
    primary = Postgres(folder / "primary", folder / "primary.log", SETTINGS)
    primary.start()
    try:
        with standing_by(primary, folder / "standby") as standby:
            yield Pair(primary, standby)
    finally:
        cut_off(primary)


@contextmanager
def standing_by(primary: Postgres, data: Path) -> Iterator[Postgres]:
    """A hot standby of a running primary, started; stopped at the end."""
    back_up(primary, data)
    standby = Postgres(data, data.with_suffix(".log"), SETTINGS)
    standby.start()
    try:
        yield standby
    finally:
        cut_off(standby)


def cut_off(server: Postgres) -> None:
    """Stop a server at once, as if its power were cut."""
    for pid in server._postmaster():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    server.stop()


def back_up(primary: Postgres, data: Path) -> None:
    """Copy a running primary into a folder from which a standby starts."""
    account = primary._account
    data.mkdir(mode=0o700)
    if account:
        os.chown(data, account.pw_uid, account.pw_gid)
    facts = ("-h", str(primary.socket_folder()), "-p", str(PORT), "-U", USER, "-D", str(data))
    command = primary._command("pg_basebackup", *facts, "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf")
    subprocess.run(command, check=True, capture_output=True, cwd="/", start_new_session=True)
    for lock in data.glob(".s.PGSQL.*"):  # the primary's, where its socket lies in its data folder
        lock.unlink()


def _await(server: Postgres, condition: str, timeout_seconds: float = 20) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not ask(server.dsn("postgres"), condition):
        assert time.monotonic() < deadline, f"{condition} did not come true within {timeout_seconds:.0f} s"
        time.sleep(0.02)
