"""Publishing: artifact first, read back and verified by another process, then one row."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.core.metrics import Floats
from perennial.core.training import Fit
from perennial.resources import Resources
from perennial.shell.database import Connection, fetch_one, run
from perennial.shell.keys import read_private_key
from perennial.spec import Model
from perennial.steps.manifests import ManifestRef, pointer_key
from perennial.steps.verifier import Verifier

SAMPLE_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """A promoted challenger before it is stored: both fits and sample rows with what each predicts for them."""

    version: str
    recipe: str
    judged: Fit
    served: Fit
    sample: pd.DataFrame
    expected: dict[str, Floats]


def store_artifact(resources: Resources, model: Model, cell: Cell, challenger: Challenger) -> tuple[ManifestRef, int]:
    """Store both fits, then the signed manifest that binds them; returns where it lies, and all bytes."""
    folder = f"artifacts/{cell.model}/{cell.country}/{challenger.version}"
    blobs = {"judged": artifacts.encode_estimator(challenger.judged.estimator)}
    blobs["served"] = (
        blobs["judged"] if challenger.served is challenger.judged else artifacts.encode_estimator(challenger.served.estimator)
    )
    files: dict[str, dict[str, Any]] = {}
    for name, data in blobs.items():
        digest = artifacts.sha256(data)
        files[name] = {"key": f"{folder}/{digest}.skops", "sha256": digest, "size": len(data)}
        resources.store.put(files[name]["key"], data)
    payload = artifacts.manifest_payload(
        cell=cell, version=challenger.version, files=files, features=challenger.sample, recipe=challenger.recipe,
        metric=model.metric,
    )  # fmt: skip
    document = artifacts.sign(payload, read_private_key(resources.signing_key))
    digest = artifacts.sha256(document)
    key = f"{folder}/{digest}.manifest"
    resources.store.put(key, document)
    manifest = ManifestRef(cell=cell, version=challenger.version, key=key, sha256=digest)
    return manifest, len(document) + sum(len(data) for data in blobs.values())


def commit_artifact(
    resources: Resources, database: Connection, verifier: Verifier, model: Model, cell: Cell, challenger: Challenger
) -> ManifestRef:
    """Store, verify in another process, and record a challenger's artifact; returns the one on record.

    The first artifact recorded for a version wins; another one is an orphan. Raises ArtifactError when what was read
    back does not predict what the fits in memory predict.
    """
    manifest, size = store_artifact(resources, model, cell, challenger)
    verifier.verify(manifest, model.trusted, model.metric, challenger.sample, challenger.expected)
    run(
        database, "add_artifact", id=challenger.version, artifact_key=manifest.key, sha256=manifest.sha256, size=size,
        served_until=challenger.served.until,
    )  # fmt: skip
    row = fetch_one(database, "artifact_of", id=challenger.version)
    return ManifestRef(cell=cell, version=challenger.version, key=row.artifact_key, sha256=row.sha256)


def write_pointer(resources: Resources, manifest: ManifestRef, seq: int) -> None:
    """Write the signed pointer that readers without Postgres follow. Written after the row; it may lag, never lead."""
    payload = artifacts.pointer_payload(
        cell=manifest.cell, seq=seq, version=manifest.version, manifest=manifest.key, manifest_sha256=manifest.sha256
    )
    resources.store.put(pointer_key(manifest.cell), artifacts.sign(payload, read_private_key(resources.signing_key)))
