"""Reading what was published: a version's manifest and fits, checked before a byte of them is parsed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.core.samples import Sample, decode_sample
from perennial.errors import ArtifactAltered, ArtifactError
from perennial.recipe import Frozen
from perennial.shell.store import Store


class Mark(NamedTuple):
    """How far a cell has moved: the generation of the registry, then the number of the release."""

    generation: int
    seq: int

    def __str__(self) -> str:
        return f"release {self.seq} of generation {self.generation}"


NEVER = Mark(0, 0)


@dataclass(frozen=True, kw_only=True)
class ManifestRef:
    """Where a version's manifest lies, what it must hash to, and the deployment it is of; empty where that is not asked."""

    cell: Cell
    version: str
    key: str
    sha256: str
    deployment: str = ""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release of a cell: its number, and the manifest of its version."""

    seq: int
    manifest: ManifestRef


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """What a cell's pointer says. ``manifest.deployment`` is empty in one of before deployments had names.

    ``earlier``: the last releases that other versions of scikit-learn have fitted, the newest first.
    """

    mark: Mark
    manifest: ManifestRef
    earlier: tuple[Release, ...] = ()

    @property
    def releases(self) -> tuple[Release, ...]:
        """What a reader may read, the one in force first."""
        return (Release(seq=self.mark.seq, manifest=self.manifest), *self.earlier)


def manifest_of(cell: Cell, row: Any) -> ManifestRef:
    """The manifest of a registry's row with version, artifact_key, sha256 and deployment."""
    return ManifestRef(
        cell=cell,
        version=row.version,
        key=row.artifact_key,
        sha256=row.sha256,
        deployment=row.deployment,
    )


def read_manifest(store: Store, keys: Sequence[Any], manifest: ManifestRef) -> dict[str, Any]:
    """The checked manifest of a version. Raises ArtifactError when it is missing, altered or another's."""
    payload = signed_manifest(store, keys, manifest)
    artifacts.check_binding(payload, manifest.cell, manifest.version)
    return payload


def signed_manifest(store: Store, keys: Sequence[Any], manifest: ManifestRef) -> dict[str, Any]:
    """The manifest of a version, whichever scikit-learn has fitted it. Raises ArtifactError as `read_manifest`."""
    payload = artifacts.verify(manifest_document(store, manifest), keys, "manifest")
    artifacts.check_deployment(payload, manifest.deployment, manifest.cell)
    artifacts.check_subject(payload, manifest.cell, manifest.version)
    return payload


def read_sample(store: Store, payload: dict[str, Any], cell: Cell) -> Sample | None:
    """The sample that a manifest names; None where it names none. Raises ObjectMissing or ArtifactAltered."""
    entry = payload.get("sample")
    if entry is None:
        return None
    data = store.get(entry["key"])
    artifacts.check_file(data, entry, cell)
    return decode_sample(data, entry["spread"])


def manifest_document(store: Store, manifest: ManifestRef) -> bytes:
    """The bytes of a manifest, as they are on record. Raises ObjectMissing, or ArtifactAltered for others."""
    document = store.get(manifest.key)
    if artifacts.sha256(document) != manifest.sha256:
        raise ArtifactAltered(f"The manifest {manifest.key} of {manifest.cell} is not the one on record. It was altered.")
    return document


def load_fit(
    store: Store,
    keys: Sequence[Any],
    manifest: ManifestRef,
    which: str,
    trusted: Sequence[str],
    frozen: Frozen | None = None,
) -> Any:
    """The ``judged`` or ``served`` estimator of a version. Raises ArtifactError, ObjectMissing or RecipeMissing.

    Its types are believed as they were reviewed when it was published: its signed manifest names
    them. ``trusted``: the spec's list, for a manifest of before they were named.
    ``frozen``: where what it names of its fleet is taken from, see `recipe.frozen_of`.
    """
    payload = read_manifest(store, keys, manifest)
    types = artifacts.trusted_of(payload, trusted)
    return _load(store, payload["files"][which], manifest.cell, types, frozen)


def load_fits(
    store: Store,
    keys: Sequence[Any],
    manifest: ManifestRef,
    trusted: Sequence[str],
    frozen: Frozen | None = None,
    is_trial: bool = False,
) -> dict[str, Any]:
    """Both estimators of a version by name; one, where they are the same file. Raises as `load_fit` does.

    ``is_trial``: also what another scikit-learn has fitted. What comes of it is to be compared with its sample.
    """
    read = signed_manifest if is_trial else read_manifest
    payload = read(store, keys, manifest)
    files, types = payload["files"], artifacts.trusted_of(payload, trusted)
    distinct = {entry["key"]: entry for entry in files.values()}
    loaded = {key: _load(store, entry, manifest.cell, types, frozen) for key, entry in distinct.items()}
    return {which: loaded[entry["key"]] for which, entry in files.items()}


def check_whole(store: Store, keys: Sequence[Any], manifest: ManifestRef) -> None:
    """Raise ObjectMissing or ArtifactAltered unless manifest and files are there as they are on record. Nothing is loaded.

    Raises ArtifactError for a manifest that no trusted key has signed.
    """
    payload = artifacts.verify(manifest_document(store, manifest), keys, "manifest")
    for entry in payload["files"].values():
        artifacts.check_file(store.get(entry["key"]), entry, manifest.cell)


def _load(store: Store, entry: dict[str, Any], cell: Cell, trusted: Sequence[str], frozen: Frozen | None) -> Any:
    data = store.get(entry["key"])
    artifacts.check_file(data, entry, cell)
    return artifacts.decode_estimator(data, trusted, frozen)


def pointer_key(cell: Cell) -> str:
    """Where a cell's pointer lies."""
    return f"pointers/{cell.model}/{cell.country}.json"


def read_pointer(
    store: Store,
    keys: Sequence[Any],
    cell: Cell,
    deployment: str = "",
    at_least: tuple[int, int] = NEVER,
) -> Pointer:
    """What a cell's pointer says.

    Raises ObjectMissing without a pointer, ArtifactError when it is not signed, another cell's or
    deployment's, or of before ``at_least``: an old pointer that somebody put back. Where a
    ``deployment`` is asked for, one that names none is refused.
    """
    return checked_pointer(store.get(pointer_key(cell)), keys, cell, deployment, at_least)


def checked_pointer(
    document: bytes,
    keys: Sequence[Any],
    cell: Cell,
    deployment: str = "",
    at_least: tuple[int, int] = NEVER,
) -> Pointer:
    """The pointer of a document. Raises ArtifactError as `read_pointer` does."""
    payload = artifacts.verify(document, keys, "pointer")
    if (payload["model"], payload["country"]) != (cell.model, cell.country):
        raise ArtifactError(f"The pointer of {cell} is that of {payload['model']}/{payload['country']}.")
    artifacts.check_deployment(payload, deployment, cell)
    if deployment and not payload["deployment"]:
        raise ArtifactError(f"The pointer of {cell} names no deployment: it is an old one. The DAG maintain writes it again.")
    mark = Mark(payload["generation"], payload["seq"])
    check_mark(cell, mark, Mark(*at_least))
    manifest = ManifestRef(
        cell=cell,
        version=payload["version"],
        key=payload["manifest"],
        sha256=payload["manifest_sha256"],
        deployment=payload["deployment"],
    )
    earlier = tuple(_earlier(each, manifest) for each in payload.get("earlier", ()))
    return Pointer(mark=mark, manifest=manifest, earlier=earlier)


def _earlier(said: dict[str, Any], last: ManifestRef) -> Release:
    manifest = replace(last, version=said["version"], key=said["manifest"], sha256=said["manifest_sha256"])
    return Release(seq=said["seq"], manifest=manifest)


def check_mark(cell: Cell, mark: Mark, seen: Mark) -> None:
    """Raise ArtifactError for a pointer of before one that has been seen."""
    if mark < seen:
        names = f"{mark}, but {seen}" if mark.generation < seen.generation else f"release {mark.seq}, but {seen.seq}"
        raise ArtifactError(f"The pointer of {cell} names {names} has been seen. It was put back.")
