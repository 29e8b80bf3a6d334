"""The state that every repetition starts from: fresh batches accepted and not yet announced, a champion in every cell.

It is made once, outside of any measurement, by the product's own steps: rows are written to a Postgres table, landed,
validated and announced; a first cycle publishes the champions; then the fresh rows are written, landed and validated. What
it leaves is kept as a template database and a folder, and each repetition begins with a copy of both.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedded.components import make_signing_keys
from embedded.paths import repo_folder
from embedded.postgres import Postgres
from fleet import stacks, world
from fleet.databases import rows_of
from fleet.folders import Folders, plant
from fleet.world import FLEET, SOURCE
from perennial.catalog import Catalog, load_catalog
from perennial.resources import Resources
from perennial.shell.database import migrate, migrations
from perennial.shell.store import open_store
from perennial.steps import ingest, validate
from perennial.steps.plan import Request, plan
from perennial.steps.report import announce, report
from perennial.steps.worker import work

TEMPLATE = "perennial_ready"
BATCHES = """
SELECT country, object_key, sha256, rows, event_min, event_max FROM perennial.readable
WHERE state = 'accepted' ORDER BY country, seq
"""
CHAMPIONS = """
SELECT r.model, r.country, r.seq, v.id AS version, v.recipe, v.judged_until, v.artifact_key, v.sha256
FROM perennial.releases AS r JOIN perennial.versions AS v ON v.id = r.to_version
"""


def prepare(folders: Folders, countries: tuple[str, ...], say: Any = print) -> None:
    """Make the starting state where it is missing. An interrupted attempt is begun anew."""
    plant(folders.tree("perennial"), sorted((repo_folder() / "dags").glob("*.py")))
    plant(folders.tree("textbook"), sorted((Path(__file__).parent / "dags").glob("*.py")))
    if _is_of_today(folders):
        return
    shutil.rmtree(folders.perennial.state, ignore_errors=True)
    folders.perennial.make()
    make_signing_keys(folders.perennial)
    with server(folders) as postgres:
        for name in ("perennial", "shop", "bench"):
            postgres.create_database(name)
        migrate(postgres.dsn("perennial"))
        world.prepare(postgres.dsn("bench"))
        tell_source(postgres)
    say("a first start of Airflow, with nothing to do: its DAGs run once when they are switched on")
    with stacks.running(folders.perennial, stacks.INGEST, stacks.RETRAIN):
        pass
    with server(folders) as postgres:
        _fill(folders, postgres, countries, say)
        facts = _facts(postgres)
        _as_joblib(folders, facts)
        _keep(folders, postgres)
    folders.facts.write_text(json.dumps(facts, indent=1, default=str))


def _is_of_today(folders: Folders) -> bool:
    """Whether a state is there that today's specs and migrations would make again."""
    return folders.facts.exists() and json.loads(folders.facts.read_text()).get("made_of") == _made_of()


def _made_of() -> str:
    here = Path(__file__).parent
    files = [here / "world.py", *sorted((here / "sources").glob("*.py")), *sorted((here / "models").rglob("*.py"))]
    texts = [file.read_text() for file in files] + [text for _, text in migrations()]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@contextmanager
def server(folders: Folders) -> Iterator[Postgres]:
    """The PostgreSQL of Perennial's stack, without the stack."""
    postgres = Postgres(folders.perennial.postgres, folders.perennial.logs / "postgres.log")
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def resources_of(folders: Folders, postgres: Postgres) -> Resources:
    """The outside world of Perennial's stack, for steps that run without Airflow."""
    private, public = make_signing_keys(folders.perennial)
    return Resources(
        database=postgres.dsn("perennial"), store=open_store(folders.perennial.store.as_uri()), signing_key=private,
        public_keys=public, source_dsn=lambda name: postgres.dsn("bench"),
    )  # fmt: skip


def tell_source(postgres: Postgres) -> None:
    """Tell the tasks of stacks that are started from now on where the source is."""
    facts = {"conn_type": "postgres", "host": str(postgres.socket_folder()), "login": "postgres", "schema": "bench"}
    os.environ["AIRFLOW_CONN_BENCH_DB"] = json.dumps(facts)


def restore(folders: Folders) -> None:
    """Put database, store and source back to the starting state."""
    with server(folders) as postgres:
        tell_source(postgres)
        _restore_databases(postgres)
    restore_store(folders, folders.perennial.store)


def _restore_databases(postgres: Postgres) -> None:
    with postgres.connect("postgres") as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS perennial WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE perennial TEMPLATE {TEMPLATE}")
        cursor.execute("CHECKPOINT")
    world.forget(postgres.dsn("bench"), world.DAYS)


def restore_store(folders: Folders, target: Path) -> None:
    """Put a store back by hard links: no object is ever changed in place."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folders.ready_store, target, copy_function=os.link)


def run_cycle(resources: Resources, catalog: Catalog, run_id: str, request: Request) -> dict[str, int]:
    """Plan, two workers, announce and report, as the DAG has them; returns outcomes by state."""
    made = plan(resources, catalog, FLEET, run_id, request)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=work, args=(resources, catalog, run_id)) for _ in range(made.workers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    announce(resources, catalog, FLEET)
    return report(resources, catalog, run_id)


def _fill(folders: Folders, postgres: Postgres, countries: tuple[str, ...], say: Any) -> None:
    resources, catalog = resources_of(folders, postgres), load_catalog()
    say(f"writing and ingesting the history of {len(countries)} countries")
    world.write(postgres.dsn("bench"), countries, range(world.HISTORY_DAYS))
    _ingest(resources, catalog)
    ingest.announce(resources, catalog.source(SOURCE))
    say("a first cycle publishes the champions")
    say(run_cycle(resources, catalog, f"{FLEET}/first", Request()))
    say("writing and ingesting the fresh rows")
    world.write(postgres.dsn("bench"), countries, range(world.HISTORY_DAYS, world.DAYS))
    _ingest(resources, catalog)


def _ingest(resources: Resources, catalog: Catalog) -> None:
    source = catalog.source(SOURCE)
    time.sleep(source.max_commit_lag.total_seconds())
    ingest.land(resources, source)
    validate.validate(resources, source)


def _facts(postgres: Postgres) -> dict[str, Any]:
    dsn = postgres.dsn("perennial")
    batches: dict[str, list[Any]] = {}
    for row in rows_of(dsn, BATCHES):
        batches.setdefault(row["country"], []).append(row)
    champions = {f"{row['model']}/{row['country']}": row for row in rows_of(dsn, CHAMPIONS)}
    as_of = max(row["event_max"] for rows in batches.values() for row in rows)
    return {"made_of": _made_of(), "as_of": as_of, "batches": batches, "champions": champions}


def _as_joblib(folders: Folders, facts: dict[str, Any]) -> None:
    """Keep the champions as those would who write a script: one joblib file each."""
    import joblib

    from fleet.loops import manifest_of
    from perennial.shell.keys import read_public_keys
    from perennial.steps.manifests import load_fit

    store = open_store(folders.perennial.store.as_uri())
    keys = read_public_keys(folders.perennial.keys / "public.pem")
    for name, champion in facts["champions"].items():
        file = folders.champions / f"{name}.joblib"
        file.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(load_fit(store, keys, manifest_of(champion), "judged", ()), file)


def _keep(folders: Folders, postgres: Postgres) -> None:
    with postgres.connect("postgres") as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
        cursor.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE perennial")
    shutil.rmtree(folders.ready_store, ignore_errors=True)
    shutil.copytree(folders.perennial.store, folders.ready_store)
