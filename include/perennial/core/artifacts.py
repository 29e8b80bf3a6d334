"""Artifacts as bytes: skops files, and signed documents that bind them to a cell, a version and an environment.

A signed document is one line of base64 (an Ed25519 signature, RFC 8032) and the payload it covers, canonical JSON. The
signature is checked over the payload's bytes before any of them is parsed.

Format 2 names the deployment that a document is of, and in pointers the generation of its registry.
A document of format 1 says neither: it is read as one of no deployment and of generation 0, before
all others (`_upgraded`).
"""

import base64
import binascii
import hashlib
import io
import json
import platform
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from perennial.cell import Cell
from perennial.core.trusted_types import UNSUPPORTED, believed, missing_from, refusal
from perennial.errors import ArtifactAltered, ArtifactError, OtherLibrary, RecipeMissing
from perennial.recipe import Frozen

FORMAT = 2
WHERE_ALTERED = {"pointer": "the DAG maintain writes it again", "manifest": "restore it from a backup of the store"}
SCHEMA = "schema.json"


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without what other modules say when skops asks all that are loaded for a name, as it does for ufuncs."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        yield


@contextmanager
def _unwarned_of_versions() -> Iterator[None]:
    """Without scikit-learn's warning of another version: what is read was shown to predict the same, or is being tried."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        yield


with _unwarned():
    import skops.io
    from sklearn.exceptions import InconsistentVersionWarning
    from skops.io.exceptions import UntrustedTypesFoundException


def sha256(data: bytes) -> str:
    """Hex digest of the bytes."""
    return hashlib.sha256(data).hexdigest()


def environment() -> dict[str, str]:
    """The versions a fitted model depends on."""
    return {
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "skops": skops.__version__,
    }


def encode_estimator(estimator: Any) -> bytes:
    """A fitted estimator as a compressed skops file. Raises ArtifactError where it holds what cannot be stored."""
    try:
        with _unwarned():
            data: bytes = skops.io.dumps(estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        hints = [f"{name}: {why}." for name, why in UNSUPPORTED.items() if name in str(error)]
        said = f"The estimator cannot be stored: {type(error).__name__}: {error}"
        raise ArtifactError(" ".join([said, *hints])) from error
    return data


def decode_estimator(data: bytes, trusted: Sequence[str], frozen: Frozen | None = None) -> Any:
    """The estimator of a skops file that names no type beyond the project's list and ``trusted``.

    ``frozen``: where its functions and classes of the fleet are taken from, instead of from today's
    code under their names. Raises ArtifactError, and RecipeMissing where that code is not there.
    """
    past = frozen if frozen and any(map(frozen.is_own, trusted)) else None
    if past and past.missing:
        raise RecipeMissing(past.missing)
    names = [past.renamed(name) for name in trusted] if past else trusted
    try:
        data = _relocated(data, past) if past else data
        with _unwarned(), _unwarned_of_versions():
            return skops.io.loads(data, trusted=sorted(believed(names)))
    except UntrustedTypesFoundException as error:
        raise ArtifactError(said_of_missing(missing_from(needed_types(data), names))) from error
    except ModuleNotFoundError as error:
        raise ArtifactError(f"The artifact needs {error.name}, which is not installed here.") from error
    except Exception as error:
        raise ArtifactError(f"The artifact is not a readable skops file: {type(error).__name__}: {error}") from error


def said_of_missing(names: Sequence[str]) -> str:
    """What is said of an artifact that needs types which neither the project nor the spec trusts."""
    said = f"The artifact needs types that are not trusted: {', '.join(names)}."
    refused = [f"{name} cannot be: {refusal(name)}." for name in names if refusal(name)]
    advice = "If they belong to the recipe, review them and name them in the spec's trusted=(…)."
    return " ".join([said, *refused] if refused else [said, advice])


def _relocated(data: bytes, frozen: Frozen) -> bytes:
    """A skops file whose schema names a frozen module wherever it named a module of the fleet; its arrays stay."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        for part in source.namelist():
            content = source.read(part)
            if part == SCHEMA:
                content = json.dumps(_with_modules(json.loads(content), frozen)).encode()
            target.writestr(part, content)
    return made.getvalue()


def _with_modules(node: Any, frozen: Frozen) -> Any:
    if isinstance(node, list):
        return [_with_modules(each, frozen) for each in node]
    if not isinstance(node, dict):
        return node
    made = {name: _with_modules(value, frozen) for name, value in node.items()}
    module = made.get("__module__")
    if isinstance(module, str) and frozen.is_own(module):
        made["__module__"] = frozen.module
    return made


def needed_types(data: bytes) -> list[str]:
    """The types that a skops file names, beyond those that skops trusts itself."""
    with _unwarned():
        return list(skops.io.get_untrusted_types(data=data))


def unfrozen_types(needed: Iterable[str], package: str) -> list[str]:
    """Those of the types that stand beside the fleet's ``package`` in the tree: no recipe keeps their code."""
    beside = f"{package.rpartition('.')[0]}."
    return [name for name in needed if name.startswith(beside) and not name.startswith(f"{package}.")]


def key_id(key: Ed25519PublicKey) -> str:
    """A short name of a public key: the head of its bytes' hash."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw))[:16]


def signer(document: bytes, keys: Sequence[Ed25519PublicKey]) -> str | None:
    """The name of the key that signed a document; None where it is none of these."""
    signature, _, body = document.partition(b"\n")
    return next((key_id(key) for key in keys if _signed_by(key, signature, body)), None)


def sign(payload: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The signed document of a payload."""
    body = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    return base64.b64encode(key.sign(body)) + b"\n" + body


def verify(document: bytes, keys: Sequence[Ed25519PublicKey], kind: str) -> dict[str, Any]:
    """The payload of a signed document of this kind. Raises ArtifactError unless one of the keys signed it."""
    if signer(document, keys) is None:
        raise ArtifactError(
            f"The {kind} is not signed by a trusted key. Its key is not among the public keys: add it there. Or it was "
            f"altered: {WHERE_ALTERED[kind]}."
        )
    payload = _upgraded(json.loads(document.partition(b"\n")[2]))
    if payload.get("kind") != kind or payload.get("format") != FORMAT:
        raise ArtifactError(f"A {kind} of format {FORMAT} was expected, not {payload.get('kind')} {payload.get('format')}.")
    return payload


def _upgraded(payload: dict[str, Any]) -> dict[str, Any]:
    if payload.get("format") != 1:
        return payload
    return {**payload, "format": FORMAT, "deployment": "", "generation": 0}


def _signed_by(key: Ed25519PublicKey, signature: bytes, body: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), body)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def manifest_payload(
    *,
    cell: Cell,
    version: str,
    deployment: str,
    files: dict[str, dict[str, Any]],
    features: pd.DataFrame,
    recipe: str,
    metric: str,
    package: str = "",
    trusted: Sequence[str] = (),
    parameters: Mapping[str, str] | None = None,
    sample: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a manifest says. ``files`` maps ``judged`` and ``served`` to key, sha256 and size of their skops file.

    ``package`` is the fleet's: what the files name of it is code of that recipe, of those ``parameters``.
    ``trusted``: the types that they name, all of them reviewed when they were published. ``sample``:
    key, sha256 and size of the file with rows and what both fits predict for them, with the
    ``spread`` of their target.
    """
    schema = [[str(name), str(dtype)] for name, dtype in features.dtypes.items()]
    return {
        "kind": "manifest",
        "format": FORMAT,
        "deployment": deployment,
        "model": cell.model,
        "country": cell.country,
        "version": version,
        "files": files,
        "schema": schema,
        "recipe": recipe,
        "package": package,
        "trusted": list(trusted),
        "metric": metric,
        "parameters": dict(parameters or {}),
        "sample": sample,
        "environment": environment(),
    }


def trusted_of(payload: dict[str, Any], otherwise: Sequence[str] = ()) -> tuple[str, ...]:
    """The types that a signed manifest says were reviewed; ``otherwise``, where it is one of before manifests said it."""
    return tuple(payload.get("trusted", otherwise))


def entries_of(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """Key, sha256 and size of every object that a manifest names: its files, and its sample where it has one."""
    return [*payload["files"].values(), *filter(None, [payload.get("sample")])]


def pointer_payload(
    *,
    cell: Cell,
    deployment: str,
    generation: int,
    seq: int,
    version: str,
    manifest: str,
    manifest_sha256: str,
    earlier: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """What a pointer says: the cell's release number in the registry's generation, and the manifest in force since.

    ``earlier``: seq, version, manifest and manifest_sha256 of the last releases that other versions
    of scikit-learn have fitted, for readers who have these.
    """
    return {
        "kind": "pointer",
        "format": FORMAT,
        "deployment": deployment,
        "model": cell.model,
        "country": cell.country,
        "generation": generation,
        "seq": seq,
        "version": version,
        "manifest": manifest,
        "manifest_sha256": manifest_sha256,
        "earlier": list(earlier),
    }


def check_subject(payload: dict[str, Any], cell: Cell, version: str) -> None:
    """Raise ArtifactError unless a manifest is this cell's and version's."""
    said = (payload["model"], payload["country"], payload["version"])
    if said != (cell.model, cell.country, version):
        raise ArtifactError(f"The manifest of {cell} version {version[:12]} is that of {said[0]}/{said[1]} {said[2][:12]}.")


def check_deployment(payload: dict[str, Any], deployment: str, cell: Cell) -> None:
    """Raise ArtifactError where a document is of another deployment. An empty name, on either side, is not compared."""
    said = payload["deployment"]
    if deployment and said and said != deployment:
        raise ArtifactError(
            f"The {payload['kind']} of {cell} is of deployment {said}, and {deployment} is asked "
            f"for. Two registries share "
            "this store, or objects were copied: give each a prefix of its own; maintain writes "
            "pointers again."
        )


def check_binding(payload: dict[str, Any], cell: Cell, version: str) -> None:
    """Raise ArtifactError unless a manifest is this cell's and version's, made in a compatible environment."""
    check_subject(payload, cell, version)
    made, here = payload["environment"]["scikit-learn"], sklearn.__version__
    if here not in (made, *payload.get("read_by", ())):
        raise OtherLibrary(
            f"{cell} version {version[:12]} was fitted by scikit-learn {made}; {here} is installed here. Install {made}, or "
            f"let a run of its retrain DAG, by workers that have {here}, make it readable."
        )


def also_read_by_this(payload: dict[str, Any]) -> dict[str, Any]:
    """A manifest's payload that names this environment's scikit-learn among those with which it was shown to be read."""
    return {**payload, "read_by": sorted({*payload.get("read_by", ()), sklearn.__version__})}


def check_file(data: bytes, entry: dict[str, Any], cell: Cell) -> None:
    """Raise ArtifactAltered unless the bytes are those that the manifest names."""
    if len(data) != entry["size"] or sha256(data) != entry["sha256"]:
        raise ArtifactAltered(f"The artifact {entry['key']} of {cell} is not what its manifest says. It was altered.")
