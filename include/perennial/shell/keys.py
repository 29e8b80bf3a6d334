"""Ed25519 keys from PEM files: the private one signs what is published, the public ones say whom to believe."""

import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from perennial.errors import SettingsError

PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n?", re.DOTALL)


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The signing key of a PEM file. Raises SettingsError, naming the file."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"The signing key {path} cannot be read: {error}. Set PERENNIAL_SIGNING_KEY.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"The signing key {path} is not an Ed25519 key.")
    return key


def read_public_keys(path: Path) -> tuple[Ed25519PublicKey, ...]:
    """The trusted keys of a PEM file, one or more. Raises SettingsError, naming the file."""
    try:
        keys = [load_pem_public_key(pem) for pem in PUBLIC.findall(path.read_bytes())]
    except (OSError, ValueError) as error:
        raise SettingsError(f"The trusted keys {path} cannot be read: {error}. Set PERENNIAL_PUBLIC_KEYS.") from error
    trusted = tuple(key for key in keys if isinstance(key, Ed25519PublicKey))
    if not trusted or len(trusted) != len(keys):
        raise SettingsError(f"{path} must hold Ed25519 public keys and nothing else.")
    return trusted
