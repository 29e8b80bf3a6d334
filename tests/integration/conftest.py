"""A real PostgreSQL for the session, a fresh database per test, and a small world that writes to it."""

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import psycopg2
import pytest
from moto.server import ThreadedMotoServer
from post_office import PostOffice
from psycopg2.extras import execute_values
from toolbox import CREDENTIALS, DAY, START, TABLE, execute, write_keys

from embedded.postgres import Postgres
from perennial.catalog import Catalog, load_catalog
from perennial.resources import Resources
from perennial.shell.database import connect, fetch, migrate
from perennial.shell.store import open_store
from perennial.steps import ingest, tell, validate
from perennial.steps.plan import Request, plan
from perennial.steps.report import report
from perennial.steps.train import train
from scratch import server_folder

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """An embedded server that does not wait for the disk, with a migrated template database."""
    folder = server_folder("perennial-test-")
    server = Postgres(folder / "data", folder / "postgres.log")
    try:
        server.start()
        for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", "CREATE DATABASE template"):
            execute(server.dsn("postgres"), statement)
        migrate(server.dsn("template"))
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_database(postgres: Postgres) -> Iterator[Any]:
    """Creates databases for one test: ``new_database()`` a migrated one, ``new_database(None)`` an empty one."""
    made = []

    def create(template: str | None = "template") -> str:
        name = f"test_{next(NUMBERS)}"
        execute(postgres.dsn("postgres"), f"CREATE DATABASE {name} TEMPLATE {template or 'template0'} STRATEGY FILE_COPY")
        made.append(name)
        return postgres.dsn(name)

    yield create
    for name in made:
        execute(postgres.dsn("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A signing key and its public key as PEM files."""
    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """Options for a client of an S3 server with one bucket."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", **CREDENTIALS}
    boto3.client("s3", **options).create_bucket(
        Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": CREDENTIALS["region_name"]}
    )
    yield options
    server.stop()


@dataclass
class Zoo:
    """A whole small Perennial: operational table, registry, store, and the steps to run cycles."""

    shop: str
    resources: Resources
    catalog: Catalog
    ids: Any
    runs: Any

    def see(self, country: str, days: range, per_day: int = 20, *, slope: float = 2.0, noise: float = 0.5) -> list[int]:
        """Write sightings for some days after START, ``weight = slope × length + noise``; returns their ids."""
        random = np.random.default_rng(days.start + per_day)
        rows = []
        for day in days:
            for length in random.uniform(0, 10, per_day):
                moment = START + day * DAY + random.uniform(0, 0.9) * DAY
                rows.append((next(self.ids), moment, country, float(length), float(slope * length + random.normal(0, noise))))
        with psycopg2.connect(self.shop) as connection, connection.cursor() as cursor:
            execute_values(cursor, "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES %s", rows)
        connection.close()
        return [row[0] for row in rows]

    def ingest(self) -> None:
        """Land and validate what is there."""
        source = self.catalog.source("sightings")
        ingest.land(self.resources, source)
        validate.validate(self.resources, source)

    def plan(self, **request: Any) -> str:
        """Plan a run; returns its id."""
        run_id = f"zoo/run-{next(self.runs)}"
        plan(self.resources, self.catalog, "zoo", run_id, Request(**request))
        return run_id

    def plan_again(self, run_id: str) -> Any:
        """Plan a run that has been planned."""
        return plan(self.resources, self.catalog, "zoo", run_id, Request())

    def train(self, run_id: str) -> dict[str, int]:
        """One worker over the run."""
        return train(self.resources, self.catalog, run_id)

    def retrain(self, **request: Any) -> dict[str, Any]:
        """Plan, train, report; returns the outcome rows by ``model/country``."""
        run_id = self.plan(**request)
        self.train(run_id)
        report(self.resources, self.catalog, run_id)
        return self.outcomes(run_id)

    def outcomes(self, run_id: str) -> dict[str, Any]:
        return {f"{row.model}/{row.country}": row for row in self.rows("outcomes_of", run_id=run_id)}

    def rows(self, query: str, **parameters: Any) -> list[Any]:
        """Rows of a named query."""
        connection = connect(self.resources.database)
        try:
            return fetch(connection, query, **parameters)
        finally:
            connection.close()

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Rows of a statement against Perennial's database."""
        connection = connect(self.resources.database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def edit(self, **changes: Any) -> None:
        """Change the spec of the model ``weight``."""
        specs = self.catalog.fleets["zoo"]
        models = {**specs.models, "weight": replace(specs.models["weight"], **changes)}
        self.catalog = replace(self.catalog, fleets={"zoo": replace(specs, models=models)})


@pytest.fixture(scope="session")
def open_zoo(keys: tuple[Path, Path]) -> Any:
    """Opens zoos on two databases and a store; ``first``: of the numbers it gives to its rows and runs."""

    def open_it(shop: str, database: str, store: Path, first: int = 1) -> Zoo:
        resources = Resources(
            database=database,
            store=open_store(store.as_uri()),
            signing_key=keys[0],
            public_keys=keys[1],
            source_dsn=lambda name: shop,
        )
        catalog = load_catalog("toy_models", "toy_sources")
        return Zoo(shop=shop, resources=resources, catalog=catalog, ids=itertools.count(first), runs=itertools.count(first))

    return open_it


@pytest.fixture
def zoo(new_database: Any, open_zoo: Any, tmp_path: Path) -> Zoo:
    """A zoo without any row yet."""
    made: Zoo = open_zoo(new_database(None), new_database(), tmp_path / "store")
    execute(made.shop, TABLE)
    return made


@pytest.fixture
def fed(zoo: Zoo) -> Zoo:
    """A zoo of one model with rows of three countries."""
    specs = zoo.catalog.fleets["zoo"]
    zoo.catalog = replace(zoo.catalog, fleets={"zoo": replace(specs, models={"weight": specs.models["weight"]})})
    for slope, country in enumerate(("Britain", "France", "Germany"), start=1):
        zoo.see(country, range(60), slope=slope)
    zoo.ingest()
    return zoo


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostOffice]:
    """An open post office, and no pauses between tries."""
    monkeypatch.setattr(tell, "PAUSES_SECONDS", (0, 0, 0))
    office = PostOffice()
    office.open()
    yield office
    office.close()
