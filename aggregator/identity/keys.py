"""Private keys of the fleet, which lie in files that their owner alone can read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fedsparse.errors import ConfigError

ServiceKey: TypeAlias = ec.EllipticCurvePrivateKey
SigningKey: TypeAlias = ed25519.Ed25519PrivateKey
PrivateKey: TypeAlias = ServiceKey | SigningKey


def new_service_key() -> ServiceKey:
    """A key for the authority, the broker or a role: ECDSA P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """A private key as PEM (PKCS 8, not encrypted)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_service_key(path: Path) -> ServiceKey:
    """Read an ECDSA key.

    Raises:
        ConfigError: it is missing, no such key, or others than its owner may read it.
    """
    key = _read(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: not an ECDSA key")
    return key


def read_signing_key(path: Path) -> SigningKey:
    """Read an Ed25519 key.

    Raises:
        ConfigError: it is missing, no such key, or others than its owner may read it.
    """
    key = _read(path)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{path}: not an Ed25519 key")
    return key


def _read(path: Path) -> PrivateKeyTypes:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"{path}: others can read this key: chmod 600 {path}")
        return load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such key; `fedsparse identity init` makes a fleet's"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (ValueError, TypeError) as error:  # damaged; or encrypted, with a password
        raise ConfigError(f"{path}: no private key: {error}") from error
