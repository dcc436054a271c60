"""Signing as the gateway, and verifying with OpenSSL (docs/wire.md, section 8)."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from fedsparse.wire.signing import Trusted


class KeySigner:
    """A `Signer` that has the private key in memory."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key().public_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that others verify with."""
        return self._public

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of `data`."""
        return self._key.sign(data)


class OpensslKey:
    """A `VerifyingKey`, ten times as fast as the one that needs no library.

    Raises:
        ValueError: the bytes are no key.
    """

    def __init__(self, encoded: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(encoded)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the owner of the key has signed `message` so."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def raw_key(certificate: x509.Certificate) -> bytes:
    """The 32 bytes of the key of a device's certificate.

    Raises:
        ValueError: it is none of a device: its key is not Ed25519.
    """
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("a device's key is Ed25519")
    return key.public_bytes_raw()


def trusted(public_keys: list[bytes]) -> Trusted:
    """What these keys have signed is to be believed."""
    return Trusted(public_keys, OpensslKey)
