"""Airflow's components as child processes, and the environment they share."""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from embedded import connections
from embedded.errors import PortInUse
from embedded.examples import EXAMPLES
from embedded.paths import Paths
from embedded.ports import Ports
from embedded.postgres import Postgres
from embedded.processes import write_json, write_whole
from perennial.shell.keys import read_private_key

USER = "admin"
OPERATIONAL = tuple(example.database for example in EXAMPLES.values() if example.database)
EXAMPLE_CONNECTIONS = (*(f"{name}_db" for name in OPERATIONAL), "landing_store")
DATABASES = ("airflow", "perennial", *OPERATIONAL)
# No triggerer: no DAG of ours defers.
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler",),
    "dag-processor": ("dag-processor",),
}
PREFERRED_PORTS = range(8080, 8100)
PORTS = ("api", "worker_log", "scheduler_health", "mail")
# One thread per training; and what a training has freed is given back: with the allocators' defaults a worker keeps twice as
# much as it ever uses. The Dockerfile sets the same.
LIBRARIES = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "ARROW_DEFAULT_MEMORY_POOL": "jemalloc",
    "JE_ARROW_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0",
    "MALLOC_MMAP_THRESHOLD_": "4194304",
}


def secrets_of(paths: Paths) -> dict[str, str]:
    """Password and keys of this state folder, made once, readable by their owner only."""
    file = paths.keys / "secrets.json"
    if not file.exists():
        made = {"password": secrets.token_urlsafe(12), "fernet": Fernet.generate_key().decode()}
        write_json(file, {**made, "jwt": secrets.token_hex(64), "api": secrets.token_hex(32)}, mode=0o600)
    found: dict[str, str] = json.loads(file.read_text())
    return found


def make_signing_keys(paths: Paths) -> tuple[Path, Path]:
    """The Ed25519 key pair of this state folder, made once."""
    private, public = paths.keys / "signing.pem", paths.keys / "public.pem"
    if not private.exists():
        made = Ed25519PrivateKey.generate()
        write_whole(private, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    if not public.exists():
        key = read_private_key(private)
        write_whole(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def choose_ports(paths: Paths, held: Ports, wanted: int | None) -> dict[str, int]:
    """Ports that this stack holds now, the former run's where possible. Raises PortInUse for one that somebody asked for."""
    former: dict[str, int] = json.loads(paths.ports.read_text()) if paths.ports.exists() else {}
    if wanted is not None and not held.hold(wanted):
        raise PortInUse(f"Port {wanted} is in use. Choose another one: make run PORT={wanted + 1}")
    ports = {"api": wanted} if wanted is not None else {}
    for name in PORTS:
        candidates = [former.get(name, 0), *(PREFERRED_PORTS if name == "api" else ())]
        if name not in ports:
            ports[name] = held.hold_one(port for port in candidates if port)
    write_json(paths.ports, ports)
    return ports


def airflow_env(
    paths: Paths, postgres: Postgres, ports: Mapping[str, int], settings: Mapping[tuple[str, str], Any]
) -> dict[str, str]:
    """The environment of every component: settings, Connections, keys; specs from elsewhere stay importable."""
    private, public = make_signing_keys(paths)
    known = secrets_of(paths)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "AIRFLOW_HOME"))}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    sections = {**_settings(paths, postgres, ports, known), **settings}
    env |= {f"AIRFLOW__{section}__{key}".upper(): str(value) for (section, key), value in sections.items()}
    return env | {
        **source_connections(postgres, paths),
        "AIRFLOW_HOME": str(paths.airflow),
        "PYTHONPATH": _import_path(paths, env),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}",
        "AIRFLOW_CONN_AIRFLOW_DB": _connection(postgres, "airflow"),
        "AIRFLOW_CONN_PERENNIAL_DB": _connection(postgres, "perennial"),
        "AIRFLOW_CONN_PERENNIAL_STORE": _store(paths.store),
        "AIRFLOW_CONN_PERENNIAL_MAIL": _mail_connection(ports["mail"]),
        "PERENNIAL_SIGNING_KEY": str(private),
        "PERENNIAL_PUBLIC_KEYS": str(public),
        "NO_PROXY": ",".join(filter(None, (env.get("NO_PROXY"), "localhost", "127.0.0.1"))),
        **LIBRARIES,
    }


def command_env(paths: Paths, postgres: Postgres) -> dict[str, str]:
    """The environment of Perennial's own commands outside Airflow."""
    private, public = make_signing_keys(paths)
    return {
        **os.environ,
        **source_connections(postgres, paths),
        "PYTHONPATH": _import_path(paths, os.environ),
        "PERENNIAL_DATABASE_URL": postgres.dsn("perennial"),
        "PERENNIAL_STORE_URL": paths.store.as_uri(),
        "PERENNIAL_SIGNING_KEY": str(private),
        "PERENNIAL_PUBLIC_KEYS": str(public),
    }


def source_connections(postgres: Postgres, paths: Paths) -> dict[str, str]:
    """The examples' Connections, and those that are given for one's own sources."""
    examples = {f"AIRFLOW_CONN_{name.upper()}_DB": _connection(postgres, name) for name in OPERATIONAL}
    return {**examples, "AIRFLOW_CONN_LANDING_STORE": _store(paths.landing), **connections.given()}


def _import_path(paths: Paths, environment: Mapping[str, str]) -> str:
    """This tree's code first, then wherever the user's specs lie."""
    return os.pathsep.join(filter(None, (str(paths.repo / "include"), environment.get("PYTHONPATH"))))


def component_env(name: str, env: Mapping[str, str]) -> dict[str, str]:
    """What one component gets: only the scheduler, whose tasks are its forks, imports their libraries beforehand."""
    return {**env, "PERENNIAL_PRELOAD": "1"} if name == "scheduler" else dict(env)


def airflow_version() -> str:
    """The installed Airflow: its database is migrated once per version."""
    return version("apache-airflow-core")


def _settings(
    paths: Paths, postgres: Postgres, ports: Mapping[str, int], known: Mapping[str, str]
) -> dict[tuple[str, str], Any]:
    url = f"http://localhost:{ports['api']}"
    return {
        ("core", "dags_folder"): paths.repo / "dags",
        ("core", "plugins_folder"): paths.repo / "plugins",
        ("core", "load_examples"): False,
        ("core", "executor"): "LocalExecutor",
        # A fleet's workers may take every core for minutes: ingest and reports run beside them.
        ("core", "parallelism"): (os.cpu_count() or 2) + 2,
        ("core", "fernet_key"): known["fernet"],
        ("core", "execution_api_server_url"): f"{url}/execution/",
        ("core", "simple_auth_manager_users"): f"{USER}:admin",
        ("core", "simple_auth_manager_passwords_file"): password_file(paths),
        ("database", "sql_alchemy_conn"): postgres.dsn("airflow", scheme="postgresql+psycopg2"),
        ("api", "port"): ports["api"],
        ("api", "host"): "127.0.0.1",
        ("api", "base_url"): url,
        ("api", "secret_key"): known["api"],
        ("api_auth", "jwt_secret"): known["jwt"],
        ("logging", "worker_log_server_port"): ports["worker_log"],
        ("scheduler", "scheduler_health_check_server_port"): ports["scheduler_health"],
        ("scheduler", "task_instance_heartbeat_timeout"): 30,
        ("scheduler", "task_instance_heartbeat_timeout_detection_interval"): 5,
        ("scheduler", "orphaned_tasks_check_interval"): 10,
        # A heartbeat is written one beat late: with Airflow's 5 s a healthy scheduler looks 10 s old, and resets its own tasks.
        ("scheduler", "scheduler_heartbeat_sec"): 1,
        ("scheduler", "scheduler_health_check_threshold"): 15,
        # A beat costs 30 ms of CPU, most of it the api-server's; how soon a failed or skipped task is noticed hangs on it, too.
        ("workers", "min_heartbeat_interval"): 2,
        ("dag_processor", "refresh_interval"): 30,
        ("dag_processor", "min_file_process_interval"): 60,
        ("usage_data_collection", "enabled"): False,
    }


def password_file(paths: Paths) -> Path:
    """The file in which Airflow's simple login looks for passwords."""
    file = paths.airflow / "passwords.json"
    write_json(file, {USER: secrets_of(paths)["password"]}, mode=0o600)
    return file


def _connection(postgres: Postgres, database: str) -> str:
    facts = {"conn_type": "postgres", "host": str(postgres.socket_folder()), "login": "postgres", "schema": database}
    return json.dumps(facts)


def _store(folder: Path) -> str:
    return json.dumps({"conn_type": "generic", "extra": {"url": folder.as_uri()}})


def mail_server(paths: Paths, ports: Mapping[str, int]) -> list[str]:
    """A mail server that puts every message into a Maildir and sends none on."""
    listen = ("-l", f"127.0.0.1:{ports['mail']}")
    return [sys.executable, "-m", "aiosmtpd", "-n", *listen, "-c", "aiosmtpd.handlers.Mailbox", str(paths.mail)]


def _mail_connection(port: int) -> str:
    extra = {"from": "perennial@example.com", "security": "none"}
    return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra})
