"""What several rules' tests use: raw statements, what is landed, champions, further models and processes."""

import hashlib
import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from perennial.cell import Cell
from perennial.client import Champions
from perennial.core import artifacts
from perennial.shell.database import Connection, connect
from perennial.shell.keys import read_private_key
from perennial.shell.lake import open_batch
from perennial.steps.manifests import pointer_key

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
GB = Cell("weight", "GB")
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-1"}
TABLE = """
CREATE TABLE sightings (
    id bigint, changed_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz, country text,
    length double precision, weight double precision, PRIMARY KEY (id, changed_at))
"""


def execute(dsn: str, statement: str, *values: Any) -> None:
    """Run one statement in a connection of its own, committed."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    connection.close()


def cycle(zoo: Any, days: range = range(60), *countries: str, **request: Any) -> Any:
    """See, ingest, retrain; the outcome of weight/GB."""
    for country in countries or ("Britain",):
        zoo.see(country, days)
    zoo.ingest()
    return zoo.retrain(**request).get("weight/GB")


def landed_changes(zoo: Any) -> pd.DataFrame:
    """Every row of every batch, as landed."""
    batches = zoo.sql("SELECT object_key, sha256 FROM batches")
    return pd.concat([open_batch(zoo.resources.store, *batch).read().to_pandas() for batch in batches])


def seen_changes(zoo: Any) -> list[Any]:
    """Every change the operational table holds."""
    with psycopg2.connect(zoo.shop) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, changed_at FROM sightings")
        rows = cursor.fetchall()
    connection.close()
    return rows


def is_landed_exactly_once(zoo: Any) -> bool:
    """Whether the lake holds each change of the table once, and nothing else."""
    landed = landed_changes(zoo)
    return sorted(zip(landed["id"], landed["changed_at"], strict=True)) == sorted(seen_changes(zoo))


def add_model(zoo: Any, name: str, **changes: Any) -> None:
    """A further model in the fleet, like ``weight`` but for the changes."""
    specs = zoo.catalog.fleets["zoo"]
    models = {**specs.models, name: replace(specs.models["weight"], name=name, **changes)}
    zoo.catalog = replace(zoo.catalog, fleets={"zoo": replace(specs, models=models)})


def edit_gate(zoo: Any, **changes: Any) -> None:
    """Change the gate of the model ``weight``."""
    zoo.edit(gate=replace(zoo.catalog.fleets["zoo"].models["weight"].gate, **changes))


def edit_source(zoo: Any, **changes: Any) -> None:
    """Change the spec of the source ``sightings``."""
    zoo.catalog = replace(zoo.catalog, sources={"sightings": replace(zoo.catalog.sources["sightings"], **changes)})


def releases(zoo: Any, cell: Cell = GB) -> list[Any]:
    """A cell's moves in order."""
    return zoo.sql("SELECT * FROM releases WHERE (model, country) = (%s, %s) ORDER BY seq", *cell)


def champion(zoo: Any, cell: Cell = GB) -> Any:
    """The version row in force."""
    return zoo.sql("SELECT * FROM versions WHERE id = %s", releases(zoo, cell)[-1].to_version)[0]


def reader(zoo: Any) -> Champions:
    """A service's client of the same store."""
    return Champions.from_url(zoo.resources.store.url, zoo.resources.public_keys)


def predict(estimator: Any, length: float) -> float:
    """What an estimator says of one length."""
    return float(estimator.predict(pd.DataFrame({"length": [length]}))[0])


def manifest(zoo: Any, cell: Cell = GB) -> dict[str, Any]:
    """The content of the champion's manifest, unchecked."""
    return artifacts.json.loads(zoo.resources.store.get(champion(zoo, cell).artifact_key).partition(b"\n")[2])


def overwrite(zoo: Any, key: str, data: bytes) -> None:
    """Change a stored object behind Perennial's back."""
    assert zoo.resources.store.get(key) != data
    zoo.resources.store.put(key, data)


def point_at(zoo: Any, document: bytes, seq: int, cell: Cell = GB, version: str | None = None) -> None:
    """Put a manifest and a properly signed pointer to it in place: what only a holder of the key can do."""
    digest = hashlib.sha256(document).hexdigest()
    zoo.resources.store.put(f"artifacts/{digest}.manifest", document)
    (deployment,) = zoo.rows("deployment_of")
    payload = artifacts.pointer_payload(
        cell=cell,
        deployment=deployment.deployment,
        generation=deployment.generation,
        seq=seq,
        version=version or champion(zoo, cell).id,
        manifest=f"artifacts/{digest}.manifest",
        manifest_sha256=digest,
    )
    zoo.resources.store.put(pointer_key(cell), artifacts.sign(payload, read_private_key(zoo.resources.signing_key)))


def held_lock(zoo: Any, cell: Cell = GB) -> Connection:
    """A session that holds the cell's lock until it is closed."""
    session = connect(zoo.resources.database)
    with session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended('perennial cell ' || %s || '/' || %s, 0))", cell)
    return session


def attempt(zoo: Any, run_id: str, number: int, cell: Cell = GB, worker: str = "elsewhere:1") -> None:
    """An attempt that started and never finished."""
    statement = "INSERT INTO attempts (run_id, model, country, attempt, worker) VALUES (%s, %s, %s, %s, %s)"
    zoo.sql(statement, run_id, *cell, number, worker)


def states(zoo: Any, run_id: str) -> dict[str, str]:
    """Outcomes of a run by cell."""
    return {cell: row.state for cell, row in zoo.outcomes(run_id).items()}


def workers(zoo: Any, run_id: str, number: int = 1) -> list[int | None]:
    """Workers as processes side by side; their exit codes."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=zoo.train, args=(run_id,)) for _ in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def write_keys(folder: Path) -> tuple[Path, Path]:
    """A new signing key and its public key as PEM files."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "signing.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public
