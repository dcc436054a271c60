"""The gateway's signatures are those that a device verifies without a library, and the reverse."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.identity.authority import Authority
from aggregator.identity.signatures import KeySigner, OpensslKey, raw_key, trusted
from fedsparse.ed25519 import PublicKey
from fedsparse.wire.signing import SignatureError, Trusted, with_signature

NOW = datetime(2026, 5, 4, tzinfo=timezone.utc)


def test_what_the_gateway_signs_is_verified_with_and_without_openssl() -> None:
    signer = KeySigner(Ed25519PrivateKey.generate())
    header = with_signature("topic", 4, {"j": "watch"}, signer)
    for trust in (trusted([signer.public_key]), Trusted([signer.public_key])):
        trust.check("topic", 4, header)
        with pytest.raises(SignatureError):
            trust.check("topic", 4, {**header, "j": "other"})


def test_both_kinds_of_keys_say_the_same() -> None:
    signer = KeySigner(Ed25519PrivateKey.generate())
    signature = signer.sign(b"data")
    for key in (OpensslKey(signer.public_key), PublicKey(signer.public_key)):
        assert key.verifies(signature, b"data")
        assert not key.verifies(signature, b"date")
        assert not key.verifies(signature[:-1], b"data")
        assert not key.verifies(b"", b"data")


def test_the_key_of_a_certificate_is_a_devices_or_none(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, "plant", NOW)
    key = Ed25519PrivateKey.generate()
    certificate = authority.issue_device("cam-01", key.public_key(), NOW)
    assert raw_key(certificate) == key.public_key().public_bytes_raw()
    with pytest.raises(ValueError, match="Ed25519"):
        raw_key(authority.certificate)
