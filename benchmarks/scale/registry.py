"""What the registry takes of a cell's time when it is empty, and when it holds a million outcomes."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from psycopg2.extras import NamedTupleCursor

from embedded.postgres import Postgres
from perennial.catalog import Catalog, load_catalog
from perennial.resources import Resources
from perennial.shell import database
from perennial.shell.store import open_store
from perennial.steps.plan import Request, plan
from perennial.steps.report import announce, report
from perennial.steps.train import train
from scale.cpu import cpu_seconds, server_of
from scale.pebbles import take_in, write_pebbles
from worlds.long_past import write_past

CELLS, ROUNDS = 100, 5
BEFORE = timedelta(days=100)  # beyond what a model reads: the past's batches are on record and in no window
PAST_MODELS = [f"past_{number:02}" for number in range(10)]


class TimedCursor(NamedTupleCursor):
    """Counts statements, and the seconds until their rows are there: by the clock, and of this process's CPU."""

    statements, wall, cpu = 0, 0.0, 0.0

    def execute(self, query: Any, vars: Any = None) -> None:
        """Run it, timed."""
        TimedCursor.statements += 1
        with _timed():
            super().execute(query, vars)

    def fetchall(self) -> list[Any]:
        """All rows, timed."""
        with _timed():
            return super().fetchall()


@contextmanager
def _timed() -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    TimedCursor.wall += time.perf_counter() - wall
    TimedCursor.cpu += time.process_time() - cpu


@dataclass(frozen=True, kw_only=True)
class Round:
    """A cycle of small cells in one process, each figure per cell; the registry's CPU is the server's and the client's."""

    statements: float
    registry_ms: float
    registry_cpu_ms: float
    all_cpu_ms: float


def compare(outcomes: int) -> dict[str, Any]:
    """Medians of some rounds in an empty and in a long registry, in turn, and how often big tables of the latter were scanned.

    The server does not wait for its disk: that is the same for both, and would hide what is not.
    """
    folder = Path(tempfile.mkdtemp(prefix="perennial-bench-"))
    postgres = Postgres(folder / "data", folder / "postgres.log")
    try:
        postgres.start()
        with postgres.connect("postgres") as server, server.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET fsync = off")
            cursor.execute("SELECT pg_reload_conf()")
        catalog = load_catalog()
        worlds = {name: _world(postgres, folder, name, catalog, rows) for name, rows in (("empty", 0), ("long", outcomes))}
        before = _scans(worlds["long"].database)
        database.NamedTupleCursor = TimedCursor  # type: ignore[misc]
        rounds: dict[str, list[Round]] = {name: [] for name in worlds}
        for number in range(ROUNDS + 1):
            for name, resources in worlds.items():
                made = _round(server_of(postgres), resources, catalog, number)
                rounds[name] += [made] if number else []  # the first one warms up
        scans = {table: number - before[table] for table, number in _scans(worlds["long"].database).items()}
        found = {name: _median(of) for name, of in rounds.items()}
        return {"outcomes": outcomes, **found, "scans": {table: number for table, number in scans.items() if number}}
    finally:
        database.NamedTupleCursor = NamedTupleCursor  # type: ignore[misc]
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _world(postgres: Postgres, folder: Path, name: str, catalog: Catalog, outcomes: int) -> Resources:
    for part in (name, f"{name}_shop"):
        postgres.create_database(part)
    database.migrate(postgres.dsn(name))
    countries = catalog.fleet("grid").fleet.countries
    if outcomes:
        write_past(postgres.dsn(name), outcomes, PAST_MODELS, countries, source="pebbles", until=datetime.now(UTC) - BEFORE)
    private, public = _keys(folder / name)
    resources = Resources(
        database=postgres.dsn(name),
        store=open_store((folder / name / "store").as_uri()),
        signing_key=private,
        public_keys=public,
        source_dsn=lambda _: postgres.dsn(f"{name}_shop"),
    )
    write_pebbles(postgres.dsn(f"{name}_shop"), countries)
    take_in(resources, catalog)
    return resources


def _keys(folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    key = Ed25519PrivateKey.generate()
    private, public = folder / "signing.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def _round(postgres: psutil.Process, resources: Resources, catalog: Catalog, number: int) -> Round:
    specs = catalog.fleet("grid")
    per_round = CELLS // len(specs.fleet.countries)
    models = tuple(list(specs.models)[number * per_round : (number + 1) * per_round])
    run_id = f"grid/{number}"
    TimedCursor.statements, TimedCursor.wall, TimedCursor.cpu = 0, 0.0, 0.0
    cpu, served = time.process_time(), cpu_seconds(postgres)
    plan(resources, catalog, "grid", run_id, Request(models=models))
    states = train(resources, catalog, run_id)
    report(resources, catalog, run_id)
    announce(resources, catalog, "grid")
    if states != {"published": CELLS}:
        raise RuntimeError(f"A round came to {states}, not to {CELLS} publications.")
    served = cpu_seconds(postgres) - served
    return Round(
        statements=TimedCursor.statements / CELLS,
        registry_ms=1000 * TimedCursor.wall / CELLS,
        registry_cpu_ms=1000 * (TimedCursor.cpu + served) / CELLS,
        all_cpu_ms=1000 * (time.process_time() - cpu + served) / CELLS,
    )


def _median(rounds: list[Round]) -> dict[str, float]:
    return {name: round(median(getattr(made, name) for made in rounds), 3) for name in Round.__dataclass_fields__}


def _scans(dsn: str) -> dict[str, int]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'perennial' AND n_live_tup > 10000"
        )
        return dict(cursor.fetchall())
