"""Requests for certificates and their answers: what proves them, and their golden bytes."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.errors import ProtocolError, RemoteProtocolError
from fedsparse.wire.enrolment import (
    AUTHORITY_TOPIC,
    KEYS,
    KINDS,
    PROOF,
    Answer,
    Enrol,
    Message,
    Outcome,
    Renew,
    answer_topic,
    decode_claim,
    encode_plain,
    encode_proved,
    encode_signed,
    new_request,
    parse_request_topic,
    request_topic,
)
from fedsparse.wire.frame import decode_frame, encode_frame
from fedsparse.wire.signing import KEY_ID, SIGNATURE, SignatureError, Trusted

GOLDEN = Path(__file__).parents[2] / "golden" / "enrolment"
KEY = hashlib.sha256(b"key").digest()
REQUEST = "00112233445566778899aabbccddeeff"
ENROL = Enrol(
    site="home", device="cam-01", code_id="AB01", csr=b"request",
    authority=hashlib.sha256(b"authority").digest(),
)  # fmt: skip
RENEW = Renew(site="home", device="cam-01", csr=b"request")
OK = Answer(
    outcome=Outcome.OK, certificate=b"certificate", authority=b"authority",
    gateway_key=hashlib.sha256(b"gateway").digest(), host="gateway.local", port=8883,
    now_ms=1764000000000,
)  # fmt: skip


class Owner:
    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


DEVICE, GATEWAY = Owner("device"), Owner("gateway")
EXAMPLES: dict[str, tuple[str, bytes]] = {
    "enrol": (request_topic(REQUEST), encode_proved(request_topic(REQUEST), ENROL, KEY)),
    "enrol_ok": (answer_topic(REQUEST), encode_proved(answer_topic(REQUEST), OK, KEY)),
    "renew": (request_topic(REQUEST), encode_signed(request_topic(REQUEST), RENEW, DEVICE)),
    "renew_ok": (answer_topic(REQUEST), encode_signed(answer_topic(REQUEST), OK, GATEWAY)),
    "refused": (answer_topic(REQUEST), encode_plain(Answer(outcome=Outcome.REFUSED))),
    "retry": (answer_topic(REQUEST), encode_plain(Answer(outcome=Outcome.RETRY))),
}
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)
blobs = st.binary(min_size=1, max_size=200)
digests = st.binary(min_size=32, max_size=32)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Enrol, site=names, device=names, csr=blobs, authority=digests,
        code_id=st.text("0123456789ABCDEF", min_size=4, max_size=4),
    ),
    st.builds(Renew, site=names, device=names, csr=blobs),
    st.builds(
        Answer, outcome=st.just(Outcome.OK), certificate=blobs, authority=blobs,
        gateway_key=digests, host=st.text(min_size=1, max_size=80), port=st.integers(1, 65535),
        now_ms=st.integers(1, 2**50 - 1),
    ),
)  # fmt: skip


def bent(payload: bytes, **changes: Any) -> bytes:  # noqa: ANN401
    """The frame with fields of its header changed, or gone where the change is None."""
    frame = decode_frame(payload)
    header = {**frame.header, **changes}
    return encode_frame(frame.kind, {k: v for k, v in header.items() if v is not None})


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_frame_has_its_golden_bytes(name: str) -> None:
    topic, payload = EXAMPLES[name]
    assert payload.hex() == "".join((GOLDEN / f"{name}.hex").read_text().split())
    assert decode_claim(topic, payload).topic == topic


def test_there_is_a_golden_file_for_each_example_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(EXAMPLES)


@given(messages)
def test_every_message_survives_the_way_with_its_proof(message: Message) -> None:
    topic = request_topic(new_request())
    claim = decode_claim(topic, encode_proved(topic, message, KEY))
    assert claim.message == message
    assert claim.is_proved_by(KEY)
    assert not claim.is_proved_by(hashlib.sha256(KEY).digest())


@pytest.mark.parametrize("name", ["enrol", "enrol_ok"])
def test_every_field_and_the_topic_are_covered_by_the_proof(name: str) -> None:
    topic, payload = EXAMPLES[name]
    assert decode_claim(topic, payload).is_proved_by(KEY)
    for other in (request_topic("f" * 32), answer_topic("f" * 32), topic + "0"):
        assert not decode_claim(other, payload).is_proved_by(KEY)
    for key, value in decode_frame(payload).header.items():
        other_value = {str: "ok2", bytes: b"x" * 32, int: 7}[type(value)]
        if key != KEYS["outcome"] and key != KEYS["code_id"]:
            assert not decode_claim(topic, bent(payload, **{key: other_value})).is_proved_by(KEY)
    assert not decode_claim(topic, bent(payload, zz=1)).is_proved_by(KEY)


def test_a_request_with_its_code_exchanged_is_not_proved() -> None:
    topic, payload = EXAMPLES["enrol"]
    assert not decode_claim(topic, bent(payload, ci="AB02")).is_proved_by(KEY)


def test_a_yes_cannot_be_made_of_a_no() -> None:
    topic, payload = EXAMPLES["enrol_ok"]
    assert not decode_claim(topic, bent(payload, vd="refused")).is_proved_by(KEY)
    assert not decode_claim(*EXAMPLES["refused"]).is_proved_by(KEY)


def test_a_request_cannot_be_sent_back_as_an_answer() -> None:
    _, payload = EXAMPLES["enrol"]
    assert not decode_claim(answer_topic(REQUEST), payload).is_proved_by(KEY)


@pytest.mark.parametrize("proof", [None, b"", "text", 31 * b"x", 33 * b"x", 5, 32 * b"\0"])
def test_a_proof_that_is_none_proves_nothing(proof: object) -> None:
    topic, payload = EXAMPLES["enrol"]
    assert not decode_claim(topic, bent(payload, **{PROOF: proof})).is_proved_by(KEY)


def test_a_renewal_is_known_by_its_signature_on_its_own_topic() -> None:
    trusted = Trusted([DEVICE.public_key])
    topic, payload = EXAMPLES["renew"]
    decode_claim(topic, payload).check_signature(trusted)
    for changes in ({"cs": b"other"}, {"d": "cam-02"}, {SIGNATURE: None}, {KEY_ID: None}):
        with pytest.raises(SignatureError):
            decode_claim(topic, bent(payload, **changes)).check_signature(trusted)
    with pytest.raises(SignatureError):
        decode_claim(request_topic("0" * 32), payload).check_signature(trusted)
    with pytest.raises(SignatureError):
        decode_claim(topic, payload).check_signature(Trusted([GATEWAY.public_key]))


def test_the_answer_to_a_renewal_is_the_gateways() -> None:
    decode_claim(*EXAMPLES["renew_ok"]).check_signature(Trusted([GATEWAY.public_key]))
    with pytest.raises(SignatureError):
        decode_claim(*EXAMPLES["renew_ok"]).check_signature(Trusted([DEVICE.public_key]))


def test_a_refusal_says_nothing_but_that_it_is_one() -> None:
    for name in ("refused", "retry"):
        topic, payload = EXAMPLES[name]
        assert decode_frame(payload).header == {KEYS["outcome"]: name}
        message = decode_claim(topic, payload).message
        assert isinstance(message, Answer)
        assert message.certificate == b""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", "a/b"), ("site", ""), ("device", "../x"), ("device", "_gateway.job"),
        ("device", "a#"), ("device", 65 * "a"), ("code_id", "AB0"), ("code_id", "ab01"),
        ("code_id", "ABIU"), ("csr", b""), ("csr", 3073 * b"x"), ("authority", 31 * b"x"),
    ],
)  # fmt: skip
def test_a_request_with_an_impossible_field_cannot_be_made(field: str, value: object) -> None:
    with pytest.raises(ProtocolError):
        dataclasses.replace(ENROL, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("certificate", b""), ("certificate", 3073 * b"x"), ("authority", b""),
        ("gateway_key", 31 * b"x"), ("host", ""), ("host", 254 * "a"), ("port", 0),
        ("port", 65536), ("now_ms", 0), ("now_ms", 2**50),
    ],
)  # fmt: skip
def test_a_yes_with_an_impossible_field_cannot_be_made(field: str, value: object) -> None:
    with pytest.raises(ProtocolError):
        dataclasses.replace(OK, **{field: value})


def test_every_field_of_another_type_is_refused() -> None:
    for topic, payload in EXAMPLES.values():
        for key in decode_frame(payload).header:
            if key in (PROOF, SIGNATURE, KEY_ID):
                continue
            for wrong in (1.5, True, None, [], {"a": 1}):
                changed = encode_frame(
                    decode_frame(payload).kind, {**decode_frame(payload).header, key: wrong}
                )
                with pytest.raises(RemoteProtocolError):
                    decode_claim(topic, changed)


def test_the_number_of_a_request_is_read_from_its_topic_and_nothing_else_is_one() -> None:
    assert parse_request_topic(request_topic(REQUEST)) == REQUEST
    assert len({new_request() for _ in range(20)}) == 20
    for topic in (
        answer_topic(REQUEST), AUTHORITY_TOPIC, request_topic(REQUEST[:-1]), request_topic("+"),
        request_topic(REQUEST.upper()), request_topic(REQUEST) + "/x", request_topic("../"),
    ):  # fmt: skip
        with pytest.raises(RemoteProtocolError):
            parse_request_topic(topic)


def test_kinds_and_keys_are_their_own() -> None:
    assert set(KINDS) == {32, 33, 34}
    assert len(set(KEYS.values())) == len(KEYS)


def test_the_document_names_every_field_kind_and_golden_file() -> None:
    document = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
    section = document.partition("## 9. Enrolment")[2].partition("## 10.")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    pairs = {
        (field.strip(), key.strip("` "))
        for row in rows
        for field, key in zip(row[2].split(","), row[3].split(","), strict=True)
    }
    assert set(KEYS.items()) | {("proof", PROOF)} <= pairs
    for number, kind in KINDS.items():
        assert f"**{kind.__name__}**, kind {number}" in section
    for path in GOLDEN.iterdir():
        assert f"`{path.stem}`" in section
