"""The embedded stack with two fleets, and what it takes to kill parts of it and to see what comes of that."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg2
from kills import Kill
from psycopg2.extras import execute_values

from embedded.errors import EmbeddedError
from embedded.processes import members
from embedded.running import Stack
from perennial.catalog import Catalog, load_catalog
from perennial.errors import PerennialError
from perennial.resources import Resources
from perennial.shell.database import connect, fetch
from perennial.shell.store import open_store
from perennial.steps import ingest, validate
from perennial.steps.audit import examine

START = datetime(2026, 1, 1, tzinfo=UTC)
SIGHTINGS = """
CREATE TABLE sightings (
    id bigint GENERATED ALWAYS AS IDENTITY, changed_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz,
    country text, length double precision, weight double precision, PRIMARY KEY (id, changed_at))
"""
PLACES = ("Britain", "France", "Germany", "Spain", "Italy")
PER_DAY = 20
LONGEST_RECOVERY_SECONDS = 240


@dataclass
class World:
    """A running stack, replaced when it has to be started again; the kills so far."""

    stack: Stack
    days: int = 0
    kills: list[Kill] = field(default_factory=list)
    catalog: Catalog = field(default_factory=load_catalog)

    @property
    def resources(self) -> Resources:
        """The outside world as the tasks of the stack see it."""
        return Resources(
            database=self.stack.postgres.dsn("perennial"),
            store=open_store(self.stack.paths.store.as_uri()),
            signing_key=self.stack.paths.keys / "signing.pem",
            public_keys=self.stack.paths.keys / "public.pem",
            source_dsn=lambda name: self.stack.postgres.dsn("shop"),
        )

    def start_again(self) -> None:
        """What the next `make run` does after one that was killed: the lock is free, all else is left as it is."""
        self.stack.lock.release()
        self.stack = Stack(self.stack.paths.state, self.stack.paths.repo)
        self.stack.start(print)

    def see(self, days: int) -> None:
        """Write sightings for further days, and ingest them."""
        random = np.random.default_rng(self.days)
        rows = [
            (START + timedelta(days=float(day + random.uniform(0, 0.9))), place, length, 2 * length + random.normal(0, 0.5))
            for day in range(self.days, self.days + days)
            for place in PLACES
            for length in random.uniform(0, 10, PER_DAY).tolist()
        ]
        self.days += days
        with self.session("shop") as cursor:
            execute_values(cursor, "INSERT INTO sightings (seen_at, country, length, weight) VALUES %s", rows)
        ingest.land(self.resources, self.catalog.source("sightings"))
        validate.validate(self.resources, self.catalog.source("sightings"))

    def retrain(self, **conf: Any) -> str:
        """Start a run of the zoo over ten days more; returns its id."""
        self.see(10)
        return f"zoo/{self.stack.api.trigger('retrain_zoo', conf)}"

    @contextmanager
    def session(self, database: str = "perennial") -> Iterator[Any]:
        """A cursor whose transaction is committed at the end."""
        connection = psycopg2.connect(self.stack.postgres.dsn(database))
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def rows(self, query: str, **parameters: Any) -> list[Any]:
        """Rows of a named query."""
        database = connect(self.stack.postgres.dsn("perennial"))
        try:
            return fetch(database, query, **parameters)
        finally:
            database.close()

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Rows of a statement."""
        with self.session() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def training(self, run_id: str, model: str = "weight", country: str = "GB") -> int | None:
        """The process that trains a cell in a run."""
        statement = (
            "SELECT split_part(worker, ':', 2)::int FROM perennial.attempts "
            "WHERE (run_id, model, country) = (%s, %s, %s) AND finished_at IS NULL ORDER BY attempt DESC LIMIT 1"
        )
        return next((pid for (pid,) in self.ask(statement, run_id, model, country)), None)

    def decided(self, run_id: str) -> int:
        """How many cells of a run have an outcome."""
        return sum(row.state != "pending" for row in self.rows("outcomes_of", run_id=run_id))

    def run_state(self, run_id: str) -> str:
        """The state of a DAG run, empty while Airflow does not answer."""
        fleet, dag_run = run_id.split("/", 1)
        with suppress(EmbeddedError):
            return self.stack.api.run_state(f"retrain_{fleet}", dag_run)
        return ""

    def run_end(self, run_id: str) -> float:
        """When a DAG run ended."""
        fleet, dag_run = run_id.split("/", 1)
        facts = self.stack.api._ask("GET", f"/api/v2/dags/retrain_{fleet}/dagRuns/{dag_run}")
        return datetime.fromisoformat(facts["end_date"]).timestamp()

    def sessions(self) -> set[int]:
        """Every process of Airflow's components and their tasks."""
        processes = self.stack.processes
        return {pid for name in processes.names() if (record := processes._read(name)) for pid in members(record)}

    def recover(self, run_id: str, killed_at: float, *, state: str = "success", **words: str) -> dict[str, str]:
        """Wait for a run's end after a kill, audit everything, note the kill; outcomes by cell."""
        wait_until(lambda: self.run_state(run_id) in ("success", "failed"), LONGEST_RECOVERY_SECONDS)
        ended_at = self.run_end(run_id)
        outcomes = self.rows("outcomes_of", run_id=run_id)
        (last,) = self.ask(
            "SELECT extract(epoch FROM max(decided_at))::float FROM perennial.outcomes WHERE run_id = %s", run_id
        )
        violations = examine(self.resources, self.catalog, deep=True).violations
        kill = Kill(
            outcomes=dict(Counter(row.state for row in outcomes)),
            seconds_to_outcomes=round(last[0] - killed_at, 1),
            seconds_to_end=round(ended_at - killed_at, 1),
            violations=len(violations),
            **words,
        )
        self.kills.append(kill)
        assert violations == []
        assert self.run_state(run_id) == state
        assert self.living_trainings() == []
        return {f"{row.model}/{row.country}": row.state for row in outcomes}

    def living_trainings(self) -> list[int]:
        """Processes that have ever trained, are named in the attempts of ended runs, and are still there."""
        statement = (
            "SELECT DISTINCT split_part(a.worker, ':', 2)::int, extract(epoch FROM a.started_at)::float "
            "FROM perennial.attempts AS a JOIN perennial.runs AS r ON r.id = a.run_id WHERE r.finished_at IS NOT NULL"
        )
        return [pid for pid, started in self.ask(statement) if is_alive(pid) and psutil.Process(pid).create_time() <= started]

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Inside, whoever writes into a table of Perennial's waits; reading goes on."""
        connection = psycopg2.connect(self.stack.postgres.dsn("perennial"))
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE perennial.{table} IN SHARE MODE")
            yield
        finally:
            connection.close()

    def waiting(self, table: str) -> list[int]:
        """The server's processes that wait to write into a table."""
        statement = (
            "SELECT pid FROM pg_locks WHERE relation = ('perennial.' || %s)::regclass AND NOT granted ORDER BY waitstart"
        )
        return [pid for (pid,) in self.ask(statement, table)]

    def end_sessions(self, pids: list[int]) -> None:
        """End sessions of the server whose statement waits: it is as if it had never been sent."""
        for pid in pids:
            self.ask("SELECT pg_terminate_backend(%s)", pid)


def kill(*pids: int) -> float:
    """SIGKILL, all at once; returns the time."""
    now = time.time()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return now


def family(pid: int) -> set[int]:
    """A process and all that come from it."""
    return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What the condition comes to, as soon as that is true of something."""
    deadline = time.monotonic() + seconds
    while not (found := _come_to(condition)):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)
    return found


def _come_to(condition: Callable[[], Any]) -> Any:
    with suppress(PerennialError, psycopg2.OperationalError):  # while the server that was killed comes up again
        return condition()
    return None


def tree(repo: Path, deployed: Path, specs: Path, folder: Path) -> Path:
    """The repository as it is deployed, with one fleet and source more."""
    for part in ("dags", "plugins", "include"):
        shutil.copytree(repo / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for more in (specs, deployed):
        shutil.copytree(more, folder / "include", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
