"""Artifacts as bytes: skops files, and signed documents that bind them to a cell, a version and an environment.

A signed document is one line of base64 (an Ed25519 signature, RFC 8032) and the payload it covers, canonical JSON. The
signature is checked over the payload's bytes before any of them is parsed.
"""

import base64
import binascii
import hashlib
import json
import platform
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import skops.io
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from skops.io.exceptions import UntrustedTypesFoundException

from perennial.cell import Cell
from perennial.errors import ArtifactError

FORMAT = 1
TRUSTED = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)


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
    """A fitted estimator as a compressed skops file."""
    data: bytes = skops.io.dumps(estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    return data


def decode_estimator(data: bytes, trusted: Sequence[str]) -> Any:
    """The estimator of a skops file that names no type beyond the fixed list and ``trusted``. Raises ArtifactError."""
    allowed = sorted({*TRUSTED, *trusted})
    try:
        return skops.io.loads(data, trusted=allowed)
    except UntrustedTypesFoundException as error:
        strangers = sorted(set(skops.io.get_untrusted_types(data=data)) - set(allowed))
        raise ArtifactError(
            f"The artifact needs types that are not trusted: {', '.join(strangers)}. "
            "If they belong to the recipe, review them and name them in the spec's trusted=(…)."
        ) from error
    except Exception as error:
        raise ArtifactError(f"The artifact is not a readable skops file: {type(error).__name__}: {error}") from error


def sign(payload: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The signed document of a payload."""
    body = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    return base64.b64encode(key.sign(body)) + b"\n" + body


def verify(document: bytes, keys: Sequence[Ed25519PublicKey], kind: str) -> dict[str, Any]:
    """The payload of a signed document of this kind. Raises ArtifactError unless one of the keys signed it."""
    signature, _, body = document.partition(b"\n")
    if not any(_signed_by(key, signature, body) for key in keys):
        raise ArtifactError(f"The {kind} is not signed by a trusted key. It was altered, or the key is not in the trust list.")
    payload: dict[str, Any] = json.loads(body)
    if payload.get("kind") != kind or payload.get("format") != FORMAT:
        raise ArtifactError(f"A {kind} of format {FORMAT} was expected, not {payload.get('kind')} {payload.get('format')}.")
    return payload


def _signed_by(key: Ed25519PublicKey, signature: bytes, body: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), body)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def manifest_payload(
    *, cell: Cell, version: str, files: dict[str, dict[str, Any]], features: pd.DataFrame, recipe: str, metric: str
) -> dict[str, Any]:
    """What a manifest says. ``files`` maps ``judged`` and ``served`` to key, sha256 and size of their skops file."""
    schema = [[str(name), str(dtype)] for name, dtype in features.dtypes.items()]
    return {
        "kind": "manifest",
        "format": FORMAT,
        "model": cell.model,
        "country": cell.country,
        "version": version,
        "files": files,
        "schema": schema,
        "recipe": recipe,
        "metric": metric,
        "environment": environment(),
    }


def pointer_payload(*, cell: Cell, seq: int, version: str, manifest: str, manifest_sha256: str) -> dict[str, Any]:
    """What a pointer says: the cell's release number and the manifest in force since."""
    return {
        "kind": "pointer",
        "format": FORMAT,
        "model": cell.model,
        "country": cell.country,
        "seq": seq,
        "version": version,
        "manifest": manifest,
        "manifest_sha256": manifest_sha256,
    }


def check_binding(payload: dict[str, Any], cell: Cell, version: str) -> None:
    """Raise ArtifactError unless a manifest is this cell's and version's, made in a compatible environment."""
    said = (payload["model"], payload["country"], payload["version"])
    if said != (cell.model, cell.country, version):
        raise ArtifactError(f"The manifest of {cell} version {version[:12]} is that of {said[0]}/{said[1]} {said[2][:12]}.")
    made, here = payload["environment"]["scikit-learn"], sklearn.__version__
    if made != here:
        raise ArtifactError(f"{cell} version {version[:12]} was fitted by scikit-learn {made}; {here} is installed here.")


def check_file(data: bytes, entry: dict[str, Any], cell: Cell) -> None:
    """Raise ArtifactError unless the bytes are those that the manifest names."""
    if len(data) != entry["size"] or sha256(data) != entry["sha256"]:
        raise ArtifactError(f"The artifact {entry['key']} of {cell} is not what its manifest says. It was altered.")
