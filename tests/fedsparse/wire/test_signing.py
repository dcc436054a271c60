"""A signature covers topic, kind, header and the body's digest, and nothing may be bent."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from message_strategies import EXAMPLES, body_of, messages

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire import cbor
from fedsparse.wire.headers import to_header
from fedsparse.wire.messages import Message, Offer, Receipt
from fedsparse.wire.signing import (
    KEY_ID,
    REMEMBERED,
    SIGNATURE,
    SignatureError,
    Trusted,
    key_id,
    signed_bytes,
    with_signature,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "signing"
TOPIC = "fl/v1/home/down/kitchen/message"


class Owner:
    """Has a key that everybody knows."""

    def __init__(self, name: str = "gateway") -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


class CountingKey:
    def __init__(self, encoded: bytes) -> None:
        self.asked = 0

    def verifies(self, signature: bytes, message: bytes) -> bool:
        self.asked += 1
        return signature[0] == 0


GATEWAY = Owner()
TRUSTED = Trusted([GATEWAY.public_key])


def header_of(message: Message) -> dict[str, Any]:
    header, body = to_header(message), body_of(message)
    return {**header, "sha256": hashlib.sha256(body).digest()} if body else header


def signed(name: str = "task") -> tuple[int, dict[str, Any]]:
    message = EXAMPLES[name]
    return message.KIND, with_signature(TOPIC, message.KIND, header_of(message), GATEWAY)


@given(messages)
def test_what_was_signed_is_trusted_after_the_way(message: Message) -> None:
    header = with_signature(TOPIC, message.KIND, header_of(message), GATEWAY)
    Trusted([GATEWAY.public_key]).check(TOPIC, message.KIND, cbor.loads(cbor.dumps(header)))


@pytest.mark.parametrize("name", ["offer", "task", "update", "receipt"])
def test_the_signed_bytes_and_the_signature_are_the_golden_ones(name: str) -> None:
    kind, header = signed(name)
    data = signed_bytes(TOPIC, kind, header)
    golden = (GOLDEN / f"{name}.hex").read_text().split("\n\n")
    assert data.hex() == "".join(golden[0].split())
    assert header[SIGNATURE].hex() == "".join(golden[1].split())
    assert data.startswith(b"fedsparse-1\0" + TOPIC.encode() + bytes([0, kind]))


@pytest.mark.parametrize(
    "topic",
    [
        "fl/v1/home/down/garden/message",
        "fl/v1/home/up/kitchen/message",
        "fl/v1/other/down/kitchen/message",
        "",
    ],
)
def test_a_message_that_was_signed_for_another_topic_is_refused(topic: str) -> None:
    kind, header = signed()
    with pytest.raises(SignatureError, match="wrong signature"):
        TRUSTED.check(topic, kind, header)


def test_every_field_is_covered_the_body_and_the_kind_too() -> None:
    kind, header = signed()
    for key in header:
        bent = {**header, key: {"other": 1}}
        with pytest.raises(SignatureError):
            TRUSTED.check(TOPIC, kind, bent)
        del bent[key]
        with pytest.raises(SignatureError):
            TRUSTED.check(TOPIC, kind, bent)
    with pytest.raises(SignatureError, match="wrong"):
        TRUSTED.check(TOPIC, kind, {**header, "zz": 1})
    with pytest.raises(SignatureError, match="wrong"):
        TRUSTED.check(TOPIC, kind, {**header, "sha256": hashlib.sha256(b"other").digest()})
    with pytest.raises(SignatureError, match="wrong"):
        TRUSTED.check(TOPIC, kind + 1, header)
    TRUSTED.check(TOPIC, kind, header)


def test_numbers_of_another_type_are_another_message() -> None:
    kind, header = signed("receipt")
    for bent in (float(header["r"]), True):
        with pytest.raises(SignatureError, match="wrong"):
            TRUSTED.check(TOPIC, kind, {**header, "r": bent})


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (SIGNATURE, None, "not signed"),
        (SIGNATURE, b"", "not signed"),
        (SIGNATURE, 65 * b"x", "not signed"),
        (SIGNATURE, 64 * "x", "not signed"),
        (SIGNATURE, 64 * b"x", "wrong signature"),
        (KEY_ID, None, "unknown key"),
        (KEY_ID, "text", "unknown key"),
        (KEY_ID, [], "unknown key"),
        (KEY_ID, 8 * b"\0", "unknown key"),
    ],
)
def test_a_signature_that_is_none_is_refused(field: str, value: object, reason: str) -> None:
    kind, header = signed()
    with pytest.raises(SignatureError, match=reason):
        TRUSTED.check(TOPIC, kind, {**header, field: value})


def test_somebody_elses_signature_is_refused_under_either_name() -> None:
    kind, header = signed()
    foreign = with_signature(TOPIC, kind, header, Owner("foreign"))
    with pytest.raises(SignatureError, match="unknown key"):
        TRUSTED.check(TOPIC, kind, foreign)
    with pytest.raises(SignatureError, match="wrong signature"):
        TRUSTED.check(TOPIC, kind, {**foreign, KEY_ID: key_id(GATEWAY.public_key)})


def test_two_keys_are_trusted_while_one_replaces_the_other() -> None:
    old, new = Owner("old"), Owner("new")
    both = Trusted([old.public_key, new.public_key])
    receipt = EXAMPLES["receipt"]
    for owner in (old, new):
        header = with_signature(TOPIC, receipt.KIND, to_header(receipt), owner)
        both.check(TOPIC, receipt.KIND, header)


def test_what_is_repeated_is_verified_once_and_what_is_wrong_every_time() -> None:
    key = CountingKey(b"")
    trusted = Trusted([b"any"], lambda encoded: key)
    good = {KEY_ID: key_id(b"any"), SIGNATURE: 64 * b"\0"}
    for _ in range(5):
        trusted.check(TOPIC, Offer.KIND, good)
    assert key.asked == 1
    for asked in (2, 3):
        with pytest.raises(SignatureError):
            trusted.check(TOPIC, Offer.KIND, {**good, SIGNATURE: 64 * b"\1"})
        assert key.asked == asked
    trusted.check("another", Offer.KIND, good)
    assert key.asked == 4


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    key = CountingKey(b"")
    trusted = Trusted([b"any"], lambda encoded: key)
    good = {KEY_ID: key_id(b"any"), SIGNATURE: 64 * b"\0"}
    for number in range(REMEMBERED + 1):
        trusted.check(TOPIC, Receipt.KIND, {**good, "n": number})
    for number in (REMEMBERED, 1, REMEMBERED + 1, 1):  # 1 is asked for again, and so stays
        trusted.check(TOPIC, Receipt.KIND, {**good, "n": number})
    assert key.asked == REMEMBERED + 2
    trusted.check(TOPIC, Receipt.KIND, {**good, "n": 0})
    assert key.asked == REMEMBERED + 3


def test_a_wrong_signature_is_the_peers_fault_and_an_impossible_topic_ours() -> None:
    assert issubclass(SignatureError, RemoteProtocolError)
    for topic, kind in (("a\0b", 2), ("a", 0), ("a", 256)):
        with pytest.raises(LocalProtocolError):
            signed_bytes(topic, kind, {})


def test_bytes_that_are_no_key_are_not_trusted() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Trusted([b"short"])
