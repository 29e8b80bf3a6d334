"""Resign: manifests and pointers signed again by the signing key, so that a former key can be taken out of use."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.errors import ArtifactError, SettingsError, StoreError
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch
from perennial.shell.keys import read_private_key, read_public_keys
from perennial.shell.registry import SIGNED_AGAIN
from perennial.steps.manifests import manifest_document, manifest_of
from perennial.steps.pointers import bring_into_step
from perennial.steps.publishing import put_in_force, put_manifest


@dataclass(kw_only=True)
class Resigned:
    """How many manifests and pointers were signed again, and why some manifests could not be."""

    manifests: int = 0
    pointers: int = 0
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Signing:
    """The keys whose signatures count, and the name of the one that signs from now on."""

    keys: tuple[Any, ...]
    current: str


def resign(resources: Resources, former: Sequence[Path] = ()) -> Resigned:
    """Sign every manifest in force and every pointer by the signing key, where another key has signed it.

    A manifest is signed again only if it is, byte by byte, the one on record, is of that version
    and recipe, and bears the signature of a trusted key or of one in the ``former`` files; then the
    registry names the new one. What fails is named and left. Running it again signs nothing twice.
    Raises SettingsError when the signing key is not among the trusted ones.
    """
    signing, done = _signing(resources, former), Resigned()
    database = connect(resources.database)
    try:
        for row in fetch(database, "audit_artifacts"):
            try:
                done.manifests += _sign_again(resources, database, row, signing)
            except (ArtifactError, StoreError) as error:
                done.refused.append(f"{Cell(row.model, row.country)} version {row.version[:12]}: {error}")
        cells = [Cell(row.model, row.country) for row in fetch(database, "audit_pointers")]
        done.pointers = len(bring_into_step(resources, database, cells, signed_by=signing.current, also=signing.keys))
    finally:
        database.close()
    return done


def _signing(resources: Resources, former: Sequence[Path]) -> Signing:
    trusted = read_public_keys(resources.public_keys)
    current = artifacts.key_id(read_private_key(resources.signing_key).public_key())
    if current not in map(artifacts.key_id, trusted):
        raise SettingsError(
            f"The signing key {current} is not among the trusted keys of {resources.public_keys}. "
            f"Add its public key there and "
            "deploy it to readers and workers first: what it signs would not be believed."
        )
    others = [key for path in former for key in read_public_keys(path)]
    return Signing(keys=(*trusted, *others), current=current)


def _sign_again(resources: Resources, database: Connection, row: Any, signing: Signing) -> bool:
    """Whether a version's manifest was signed again. Raises ArtifactError or StoreError where it is not to be signed."""
    cell = Cell(row.model, row.country)
    document = manifest_document(resources.store, manifest_of(cell, row))
    payload = artifacts.verify(document, signing.keys, "manifest")
    artifacts.check_subject(payload, cell, row.version)
    if payload["recipe"] != row.recipe:
        raise ArtifactError(f"The manifest names recipe {payload['recipe'][:16]}, on record is {row.recipe[:16]}.")
    if artifacts.signer(document, signing.keys) == signing.current and payload["deployment"] == row.deployment:
        return False
    made, size = put_manifest(resources, {**payload, "deployment": row.deployment})
    return put_in_force(database, made, size, follows=row.sha256, kind=SIGNED_AGAIN)
