"""Publishing: artifact first, read back and verified by another process, then one row."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.core.samples import Sample, encode_sample
from perennial.core.training import Fit
from perennial.errors import ArtifactError
from perennial.recipe import Frozen, fleet_package
from perennial.resources import Resources
from perennial.shell.database import Connection, fetch_one, run
from perennial.shell.keys import read_private_key, read_public_keys
from perennial.shell.registry import STORED_AGAIN, add_manifest, deployment_of
from perennial.spec import Model
from perennial.steps.manifests import ManifestRef, manifest_of, read_manifest
from perennial.steps.rehearsal import check_types
from perennial.steps.verifier import Verifier

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """A promoted challenger before it is stored: both fits, and sample rows with what each predicts for them.

    ``parameters``: the recipe's, as they are on record. ``frozen``: where its code stands, if not in today's.
    """

    version: str
    recipe: str
    parameters: Mapping[str, str]
    judged: Fit
    served: Fit
    sample: Sample
    frozen: Frozen | None = None


def store_artifact(
    resources: Resources, model: Model, cell: Cell, challenger: Challenger, deployment: str
) -> tuple[ManifestRef, int]:
    """Store both fits, then the signed manifest that binds them; returns where it lies, and all bytes.

    Raises ArtifactError where they name types that neither the project nor the spec trusts: what a
    manifest names, readers believe.
    """
    folder = f"artifacts/{cell.model}/{cell.country}/{challenger.version}"
    blobs = {"judged": artifacts.encode_estimator(challenger.judged.estimator)}
    blobs["served"] = (
        blobs["judged"] if challenger.served is challenger.judged else artifacts.encode_estimator(challenger.served.estimator)
    )
    package, types = fleet_package(model), _types_of(blobs)
    _check_code_is_kept(types, package, cell)
    check_types(model, types)
    files: dict[str, dict[str, Any]] = {}
    for name, data in blobs.items():
        digest = artifacts.sha256(data)
        files[name] = {"key": f"{folder}/{digest}.skops", "sha256": digest, "size": len(data)}
        resources.store.put(files[name]["key"], data)
    payload = artifacts.manifest_payload(
        cell=cell,
        version=challenger.version,
        deployment=deployment,
        files=files,
        features=challenger.sample.features,
        recipe=challenger.recipe,
        parameters=challenger.parameters,
        metric=model.metric,
        package=package,
        trusted=types,
        sample=_put_sample(resources, cell, folder, challenger.sample),
    )
    return put_manifest(resources, payload)


def _types_of(blobs: Mapping[str, bytes]) -> list[str]:
    """The types that any of the files names, each file looked at once."""
    distinct = {id(data): data for data in blobs.values()}.values()
    return sorted({name for data in distinct for name in artifacts.needed_types(data)})


def _put_sample(resources: Resources, cell: Cell, folder: str, sample: Sample) -> dict[str, Any] | None:
    data = encode_sample(sample)
    if data is None:
        logger.warning(
            "The features of %s cannot be stored type by type: with another scikit-learn its champion is judged as lost. "
            "Let features() return columns of one type each.",
            cell,
        )
        return None
    digest = artifacts.sha256(data)
    entry: dict[str, Any] = {"key": f"{folder}/{digest}.sample", "sha256": digest, "size": len(data), "spread": sample.spread}
    resources.store.put(entry["key"], data)
    return entry


def _check_code_is_kept(types: Iterable[str], package: str, cell: Cell) -> None:
    """Raise ArtifactError for types of the tree beside the fleet: an edit of theirs would change this version's predictions."""
    strangers = artifacts.unfrozen_types(types, package)
    if strangers:
        raise ArtifactError(
            f"The artifact of {cell} names {', '.join(strangers)}, which no recipe keeps: whoever "
            f"edits it would change a "
            f"champion in force. Move it into {package}, or into a package that is installed."
        )


def put_manifest(resources: Resources, payload: dict[str, Any]) -> tuple[ManifestRef, int]:
    """Sign and store a manifest; returns where it lies, and the bytes of it and of the files it names."""
    cell, version = Cell(payload["model"], payload["country"]), payload["version"]
    document = artifacts.sign(payload, read_private_key(resources.signing_key))
    digest = artifacts.sha256(document)
    key = f"artifacts/{cell.model}/{cell.country}/{version}/{digest}.manifest"
    resources.store.put(key, document)
    manifest = ManifestRef(cell=cell, version=version, key=key, sha256=digest, deployment=payload["deployment"])
    return manifest, len(document) + sum(entry["size"] for entry in artifacts.entries_of(payload))


def commit_artifact(
    resources: Resources,
    database: Connection,
    verifier: Verifier,
    model: Model,
    cell: Cell,
    challenger: Challenger,
) -> ManifestRef:
    """Store, verify in another process, and record a challenger's artifact; returns the one on record, verified.

    The first artifact recorded for a version wins, while it passes; another one is an orphan. One
    that fails is replaced, if no release names the version. Raises ArtifactError when what was read
    back does not predict what the fits in memory do.
    """
    recorded = _recorded(database, cell, challenger.version)
    failure = _failure(resources, verifier, recorded, model, challenger) if recorded else None
    if recorded and failure is None:
        return recorded
    manifest, size = store_artifact(resources, model, cell, challenger, deployment_of(database).id)
    _verify(verifier, manifest, model, challenger)
    if recorded is None:
        _record_first(database, manifest, size, challenger)
    else:
        logger.warning("The artifact on record of %s is replaced. %s", cell, failure)
        put_in_force(database, manifest, size, follows=recorded.sha256, kind=STORED_AGAIN)
    if _recorded(database, cell, challenger.version) != manifest:
        raise ArtifactError(f"Another process has recorded an artifact of {cell} meanwhile. The cell is to be judged again.")
    return manifest


def _verify(verifier: Verifier, manifest: ManifestRef, model: Model, challenger: Challenger) -> None:
    sample = challenger.sample
    verifier.verify(manifest, model.trusted, model.metric, sample.features, dict(sample.expected), challenger.frozen)


def _failure(
    resources: Resources,
    verifier: Verifier,
    manifest: ManifestRef,
    model: Model,
    challenger: Challenger,
) -> ArtifactError | None:
    """Why the artifact on record cannot be released, by what the spec trusts today; None where it can."""
    try:
        _verify(verifier, manifest, model, challenger)
        payload = read_manifest(resources.store, read_public_keys(resources.public_keys), manifest)
        check_types(model, artifacts.trusted_of(payload))
    except ArtifactError as error:
        return error
    return None


def _recorded(database: Connection, cell: Cell, version: str) -> ManifestRef | None:
    row = fetch_one(database, "artifact_of", id=version)
    return manifest_of(cell, row) if row else None


def _record_first(database: Connection, manifest: ManifestRef, size: int, challenger: Challenger) -> None:
    run(
        database,
        "add_artifact",
        id=manifest.version,
        artifact_key=manifest.key,
        sha256=manifest.sha256,
        size=size,
        served_until=challenger.served.until,
    )


def put_in_force(
    database: Connection,
    manifest: ManifestRef,
    size: int,
    *,
    follows: str,
    kind: str,
    read_by: str | None = None,
) -> bool:
    """Have a stored manifest follow the version's one of the hash ``follows``; False and raises as `add_manifest`."""
    return add_manifest(
        database,
        manifest.version,
        follows=follows,
        kind=kind,
        artifact_key=manifest.key,
        sha256=manifest.sha256,
        size=size,
        read_by=read_by,
    )
