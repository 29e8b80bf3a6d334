"""Reading what was published: a version's manifest and fits, checked before a byte of them is parsed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.errors import ArtifactError
from perennial.shell.store import Store


@dataclass(frozen=True, kw_only=True)
class ManifestRef:
    """Where a version's manifest lies, and what it must hash to."""

    cell: Cell
    version: str
    key: str
    sha256: str


def read_manifest(store: Store, keys: Sequence[Any], manifest: ManifestRef) -> dict[str, Any]:
    """The checked manifest of a version. Raises ArtifactError when it is missing, altered or another's."""
    document = store.get(manifest.key)
    if artifacts.sha256(document) != manifest.sha256:
        raise ArtifactError(f"The manifest {manifest.key} of {manifest.cell} is not the one on record. It was altered.")
    payload = artifacts.verify(document, keys, "manifest")
    artifacts.check_binding(payload, manifest.cell, manifest.version)
    return payload


def load_fit(store: Store, keys: Sequence[Any], manifest: ManifestRef, which: str, trusted: Sequence[str]) -> Any:
    """The ``judged`` or ``served`` estimator of a version. Raises ArtifactError or ObjectMissing."""
    return _load(store, read_manifest(store, keys, manifest)["files"][which], manifest.cell, trusted)


def load_fits(store: Store, keys: Sequence[Any], manifest: ManifestRef, trusted: Sequence[str]) -> dict[str, Any]:
    """Both estimators of a version by name; one, where they are the same file. Raises as `load_fit` does."""
    files = read_manifest(store, keys, manifest)["files"]
    distinct = {entry["key"]: entry for entry in files.values()}
    loaded = {key: _load(store, entry, manifest.cell, trusted) for key, entry in distinct.items()}
    return {which: loaded[entry["key"]] for which, entry in files.items()}


def _load(store: Store, entry: dict[str, Any], cell: Cell, trusted: Sequence[str]) -> Any:
    data = store.get(entry["key"])
    artifacts.check_file(data, entry, cell)
    return artifacts.decode_estimator(data, trusted)


def pointer_key(cell: Cell) -> str:
    """Where a cell's pointer lies."""
    return f"pointers/{cell.model}/{cell.country}.json"


def read_pointer(store: Store, keys: Sequence[Any], cell: Cell, at_least: int = 0) -> tuple[int, ManifestRef]:
    """The release number and manifest a cell's pointer names.

    Raises ObjectMissing without a pointer, ArtifactError when it is not signed, another cell's, or numbered below
    ``at_least``: an old pointer that somebody put back.
    """
    payload = artifacts.verify(store.get(pointer_key(cell)), keys, "pointer")
    if (payload["model"], payload["country"]) != (cell.model, cell.country):
        raise ArtifactError(f"The pointer of {cell} is that of {payload['model']}/{payload['country']}.")
    if payload["seq"] < at_least:
        raise ArtifactError(
            f"The pointer of {cell} names release {payload['seq']}, but {at_least} has been seen. It was put back."
        )
    manifest = ManifestRef(cell=cell, version=payload["version"], key=payload["manifest"], sha256=payload["manifest_sha256"])
    return payload["seq"], manifest
