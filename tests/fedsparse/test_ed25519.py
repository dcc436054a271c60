"""Verification with integers alone agrees with OpenSSL's, and is stricter where keys are bent."""

from __future__ import annotations

import hashlib
import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from fedsparse import ed25519
from fedsparse.ed25519 import L, P, PublicKey

# RFC 8032, section 7.1: secret key, public key, message, signature.
VECTORS = {
    "empty": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
        "f9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "one byte": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
        "f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "two bytes": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76098"
        "4dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    "sha(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c664"
        "31e0303dca179c138ac17ad9bef1177331a704",
    ),
}
SMALL_ORDER = [
    "01" + 31 * "00",
    "ec" + 30 * "ff" + "7f",
    32 * "00",
    31 * "00" + "80",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


def signed(secret: Ed25519PrivateKey, message: bytes) -> tuple[bytes, bytes]:
    return secret.public_key().public_bytes_raw(), secret.sign(message)


def openssl_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def multiple(number: int, encoded: bytes) -> ed25519.Point:
    """The schoolbook way, independent of windows and signed digits."""
    point, total = ed25519._decode(encoded), ed25519.NEUTRAL
    for bit in bin(number)[2:]:
        total = ed25519._double(total)
        if bit == "1":
            total = ed25519._add(total, ed25519._addend(point))
    return total


BASE = (4 * pow(5, -1, P) % P).to_bytes(32, "little")


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_the_rfc_are_verified(name: str) -> None:
    secret, public, message, signature = map(bytes.fromhex, VECTORS[name])
    assert signed(Ed25519PrivateKey.from_private_bytes(secret), message) == (public, signature)
    assert PublicKey(public).verifies(signature, message)
    assert not PublicKey(public).verifies(signature, message + b"\0")


def test_the_base_point_has_the_order_that_is_written_here() -> None:
    assert ed25519._encode(multiple(L, BASE)) == ed25519._encode(ed25519.NEUTRAL)
    assert ed25519._encode(multiple(L + 1, BASE)) == BASE


def test_honest_and_mutated_signatures_are_judged_as_openssl_judges_them() -> None:
    rng = random.Random(20)
    for _ in range(60):
        message = rng.randbytes(rng.choice((0, 1, 63, 300)))
        public, signature = signed(Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)), message)
        key = PublicKey(public)
        assert key.verifies(signature, message)
        for _ in range(6):
            bent, text = bytearray(signature), bytearray(message)
            target = rng.choice([bent, text] if text else [bent])
            target[rng.randrange(len(target))] ^= 1 << rng.randrange(8)
            assert not key.verifies(bytes(bent), bytes(text))
            assert not openssl_verifies(public, bytes(bent), bytes(text))


def test_a_signature_by_another_key_is_refused() -> None:
    ours, theirs = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    key = PublicKey(ours.public_key().public_bytes_raw())
    assert key.verifies(ours.sign(b"a"), b"a")
    assert not key.verifies(theirs.sign(b"a"), b"a")


def test_random_bytes_are_a_key_only_where_openssl_has_the_same_point() -> None:
    rng, points = random.Random(3), 0
    for _ in range(200):
        encoded = rng.randbytes(32)
        try:
            key = PublicKey(encoded)
        except ValueError:
            continue
        points += 1
        assert ed25519._encode(ed25519._decode(encoded)) == encoded
        assert not key.verifies(rng.randbytes(32) + 32 * b"\0", b"")
    assert 60 < points < 140  # half of all bytes are the y of a point


@pytest.mark.parametrize("more", [1, 2, 3])
def test_an_s_that_is_not_below_the_order_is_refused(more: int) -> None:
    public, signature = signed(Ed25519PrivateKey.generate(), b"x")
    larger = int.from_bytes(signature[32:], "little") + more * L
    bent = signature[:32] + larger.to_bytes(32, "little")
    assert not PublicKey(public).verifies(bent, b"x")
    assert not openssl_verifies(public, bent, b"x")


@pytest.mark.parametrize("encoded", SMALL_ORDER)
def test_a_public_key_of_small_order_is_refused(encoded: str) -> None:
    point = bytes.fromhex(encoded)
    assert ed25519._encode(multiple(8, point)) == ed25519._encode(ed25519.NEUTRAL)
    with pytest.raises(ValueError, match="small order"):
        PublicKey(point)


def test_what_a_key_of_small_order_would_let_through() -> None:
    neutral, nothing = bytes.fromhex(SMALL_ORDER[0]), 32 * b"\0"
    assert openssl_verifies(neutral, neutral + nothing, b"anything at all")


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        ((P + 1).to_bytes(32, "little"), "canonical"),
        ((P).to_bytes(32, "little"), "canonical"),
        ((2**255 - 1).to_bytes(32, "little"), "canonical"),
        ((1 | 1 << 255).to_bytes(32, "little"), "no point"),  # x = 0 with the sign of a one
        ((2).to_bytes(32, "little"), "no point"),
        (b"", "32 bytes, not 0"),
        (31 * b"\1", "32 bytes, not 31"),
        (33 * b"\1", "32 bytes, not 33"),
    ],
)
def test_what_is_no_public_key_is_refused(encoded: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PublicKey(encoded)


@pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(size: int) -> None:
    public, signature = signed(Ed25519PrivateKey.generate(), b"x")
    assert not PublicKey(public).verifies((signature * 2)[:size], b"x")


def bent_signature(secret: int, public: bytes, commitment: bytes, message: bytes) -> bytes:
    """A signature whose R is written as `commitment`, which stands for the neutral point."""
    digest = hashlib.sha512(commitment + public + message).digest()
    scalar = int.from_bytes(digest, "little") % L * secret % L
    return commitment + scalar.to_bytes(32, "little")


def test_an_r_that_is_not_written_canonically_is_refused() -> None:
    public = ed25519._encode(multiple(12345, BASE))
    canonical, bent = bytes.fromhex(SMALL_ORDER[0]), (P + 1).to_bytes(32, "little")
    for commitment, good in ((canonical, True), (bent, False)):
        signature = bent_signature(12345, public, commitment, b"m")
        assert PublicKey(public).verifies(signature, b"m") is good
        assert openssl_verifies(public, signature, b"m") is good


def test_a_key_with_a_part_of_small_order_is_judged_as_openssl_judges_it() -> None:
    torsion = ed25519._addend(ed25519._decode(bytes.fromhex(SMALL_ORDER[4])))
    public = ed25519._encode(ed25519._add(multiple(777, BASE), torsion))
    neutral = bytes.fromhex(SMALL_ORDER[0])
    verdicts = set()
    for number in range(40):
        message = b"%d" % number
        signature = bent_signature(777, public, neutral, message)
        verdict = PublicKey(public).verifies(signature, message)
        assert verdict is openssl_verifies(public, signature, message)
        verdicts.add(verdict)
    assert verdicts == {True, False}  # one message in eight hides the part


def test_a_scalar_is_the_sum_of_its_signed_digits() -> None:
    rng = random.Random(1)
    for number in (0, 1, 2, 255, 2**252, L - 1, *(rng.randrange(L) for _ in range(50))):
        for window in (ed25519.KEY_WINDOW, ed25519.BASE_WINDOW):
            digits = ed25519._signed_digits(number, window)
            assert sum(digit << place for place, digit in digits.items()) == number
            assert all(d % 2 and abs(d) < 1 << (window - 1) for d in digits.values())
