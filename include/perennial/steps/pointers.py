"""Pointers: what readers without Postgres follow. Written after the row; they may lag, never lead, and are repaired."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from perennial.catalog import Catalog
from perennial.cell import Cell
from perennial.core import artifacts
from perennial.errors import ArtifactError, ObjectMissing, StoreError
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one
from perennial.shell.keys import read_private_key, read_public_keys
from perennial.shell.registry import Deployment, champion_of, deployment_of, raise_generation
from perennial.steps.manifests import (
    ManifestRef,
    Mark,
    Pointer,
    Release,
    checked_pointer,
    manifest_of,
    pointer_key,
)

logger = logging.getLogger(__name__)

TRIES = 10


def write_pointer(resources: Resources, database: Connection, manifest: ManifestRef, seq: int) -> None:
    """Write the pointer of a release; after a look at the one it replaces, for what this registry does not know."""
    document = _stored(resources, manifest.cell)
    found = _believed(document, read_public_keys(resources.public_keys), manifest.cell)
    deployment = current_deployment(database, found)
    put_pointer(resources, deployment, manifest, seq, earlier_than(database, manifest.cell, seq))


def earlier_than(database: Connection, cell: Cell, seq: int) -> tuple[Release, ...]:
    """Before a release, the last one of each other scikit-learn: what readers keep who have that."""
    rows = fetch(database, "last_by_library", model=cell.model, country=cell.country, seq=seq)
    return tuple(Release(seq=row.seq, manifest=manifest_of(cell, row)) for row in rows)


def put_pointer(
    resources: Resources,
    deployment: Deployment,
    manifest: ManifestRef,
    seq: int,
    earlier: Sequence[Release] = (),
) -> None:
    """Store the signed pointer of a release, with what readers keep who have another scikit-learn."""
    payload = artifacts.pointer_payload(
        cell=manifest.cell,
        deployment=deployment.id,
        generation=deployment.generation,
        seq=seq,
        version=manifest.version,
        manifest=manifest.key,
        manifest_sha256=manifest.sha256,
        earlier=[_said(release) for release in earlier],
    )
    resources.store.put(pointer_key(manifest.cell), artifacts.sign(payload, read_private_key(resources.signing_key)))


def _said(release: Release) -> dict[str, Any]:
    manifest = release.manifest
    return {
        "seq": release.seq,
        "version": manifest.version,
        "manifest": manifest.key,
        "manifest_sha256": manifest.sha256,
    }


def current_deployment(database: Connection, found: Pointer | None) -> Deployment:
    """The deployment as it stands; in a generation of its own where a signed pointer of it shows that releases were lost.

    A pointer never leads: one that names a release which the registry does not know, or a later
    generation, was written by this registry before it was restored or failed over. Readers may have
    followed it, and follow a later generation only.
    """
    deployment = deployment_of(database)
    if found is not None and found.manifest.deployment not in ("", deployment.id):
        logger.error(
            "The pointer of %s was of deployment %s, this is %s: another registry writes to this "
            "store, or objects were copied. "
            "Give each a store of its own.",
            found.manifest.cell,
            found.manifest.deployment,
            deployment.id,
        )
    if found is None or not leads(database, deployment, found):
        return deployment
    cell, beyond = found.manifest.cell, found.mark.generation
    reason = f"The pointer of {cell} names {found.mark}, version {found.manifest.version[:12]}: unknown here."
    logger.warning("%s The registry was restored or failed over: its word counts from now on.", reason)
    return raise_generation(database, reason, beyond=beyond)


def leads(database: Connection, deployment: Deployment, found: Pointer) -> bool:
    """Whether a pointer of this deployment, and of this generation or a later one, names what its registry does not know."""
    if found.manifest.deployment != deployment.id or found.mark.generation < deployment.generation:
        return False
    if found.mark.generation > deployment.generation:
        return True
    cell = found.manifest.cell
    row = fetch_one(database, "version_released", model=cell.model, country=cell.country, seq=found.mark.seq)
    return row is None or row.version != found.manifest.version


def begin_generation(resources: Resources, catalog: Catalog, reason: str, is_copy: bool = False) -> tuple[Deployment, int]:
    """Let the registry's word count over what it has lost: raise its generation and write the pointers again; how many.

    ``is_copy``: it was copied from another deployment, which goes on: it gets a name of its own.
    """
    database = connect(resources.database)
    try:
        deployment = raise_generation(database, reason, is_copy=is_copy)
    finally:
        database.close()
    return deployment, repair_pointers(resources, catalog)


def repair_pointers(resources: Resources, catalog: Catalog) -> int:
    """Rewrite every pointer that is not that of its cell's last release; returns how many.

    One that is missing, altered, behind, of another deployment, of before deployments had names, or
    of an earlier generation.
    """
    models = [model for specs in catalog.fleets.values() for model in specs.models]
    database = connect(resources.database)
    try:
        cells = [Cell(row.model, row.country) for row in fetch(database, "cells_of", models=models)]
        return len(bring_into_step(resources, database, cells))
    finally:
        database.close()


def bring_into_step(
    resources: Resources,
    database: Connection,
    cells: Iterable[Cell],
    signed_by: str = "",
    also: Sequence[Any] = (),
) -> list[Cell]:
    """Rewrite the pointers of some cells that are not right; ``signed_by``: and those that another key has signed.

    ``also``: further keys by which a pointer is believed, to see what it names. Returns the cells
    whose pointer was wrong.
    """
    keys = (*read_public_keys(resources.public_keys), *also)
    repaired = [cell for cell in sorted(set(cells)) if _repaired(resources, database, keys, cell, signed_by)]
    for cell in repaired:
        logger.warning("The pointer of %s was not in step with its last release, and is now.", cell)
    return repaired


def _repaired(resources: Resources, database: Connection, keys: Sequence[Any], cell: Cell, signed_by: str) -> bool:
    """A release may be made meanwhile: the pointer is read before the registry, and looked at again after it was written."""
    for number in range(TRIES):
        document = _stored(resources, cell)
        found = _believed(document, keys, cell)
        deployment, champion = current_deployment(database, found), champion_of(database, cell)
        if champion is None:
            return False
        right = Pointer(
            mark=Mark(deployment.generation, champion.seq),
            manifest=manifest_of(cell, champion),
            earlier=earlier_than(database, cell, champion.seq),
        )
        if found == right and (not signed_by or artifacts.signer(document, keys) == signed_by):
            return number > 0
        put_pointer(resources, deployment, right.manifest, champion.seq, right.earlier)
    raise StoreError(f"The pointer of {cell} was written {TRIES} times and still does not say what was written.")


def _stored(resources: Resources, cell: Cell) -> bytes:
    try:
        return resources.store.get(pointer_key(cell))
    except ObjectMissing:
        return b""


def _believed(document: bytes, keys: Sequence[Any], cell: Cell) -> Pointer | None:
    """What a signed document points at; None for what is no pointer of the cell."""
    try:
        return checked_pointer(document, keys, cell)
    except ArtifactError:
        return None
