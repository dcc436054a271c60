from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire.frame import (
    CHUNK,
    CHUNK_BYTES,
    MAX_HEADER_BYTES,
    SHA256,
    SIZE,
    Absent,
    UnsupportedVersionError,
    decode_frame,
    encode_frame,
    encode_head,
)


@given(kind=st.integers(1, 255), body=st.binary(max_size=100), number=st.integers(0, 2**60))
def test_a_frame_survives_the_way(kind: int, body: bytes, number: int) -> None:
    frame = decode_frame(encode_frame(kind, {"n": number}, body))
    assert (frame.kind, dict(frame.header), bytes(frame.body)) == (kind, {"n": number}, body)


def test_the_layout_is_the_documented_one() -> None:
    data = encode_frame(5, {"a": 1}, b"xy")
    header = b"\xa2\x61a\x01\x66sha256\x58\x20" + hashlib.sha256(b"xy").digest()
    assert data == b"FS\x01\x05" + len(header).to_bytes(4, "little") + header + b"xy"


def test_the_body_is_a_read_only_view_of_the_frame() -> None:
    data = bytearray(encode_frame(5, {}, b"xy"))
    body = decode_frame(data).body
    assert body.readonly
    assert body.obj is data


def test_a_frame_without_a_body_needs_no_digest() -> None:
    assert SHA256.encode() not in encode_frame(1, {"a": 1})


def test_a_chunk_carries_no_digest_of_its_payload() -> None:
    assert SHA256.encode() not in encode_frame(CHUNK, {"a": 1}, b"payload")


@given(st.integers(0, 10_000))
def test_every_truncation_is_refused(cut: int) -> None:
    data = encode_frame(5, {"a": [1, 2, 3]}, b"body")
    with pytest.raises(RemoteProtocolError):
        decode_frame(data[: cut % len(data)])


def test_another_version_is_refused_with_its_own_error() -> None:
    data = bytearray(encode_frame(5, {}))
    data[2] = 2
    with pytest.raises(UnsupportedVersionError, match=r"version 2.*this build 1: update the older"):
        decode_frame(bytes(data))


def test_a_flipped_bit_in_the_body_is_noticed() -> None:
    data = bytearray(encode_frame(5, {}, b"body"))
    data[-1] ^= 1
    with pytest.raises(RemoteProtocolError, match="does not match its SHA-256"):
        decode_frame(bytes(data))


def test_a_header_beyond_the_limit_is_a_bug_here_and_a_fault_there() -> None:
    with pytest.raises(LocalProtocolError, match="header"):
        encode_frame(5, {"a": b"x" * MAX_HEADER_BYTES})
    size = MAX_HEADER_BYTES + 1
    with pytest.raises(RemoteProtocolError, match=f"header length {size}"):
        decode_frame(b"FS\x01\x05" + size.to_bytes(4, "little") + b"\0" * size)


@given(kind=st.integers(1, 15), size=st.integers(1, 2**40 - 1), chunk_bytes=st.integers(1, 262_144))
def test_a_head_survives_the_way(kind: int, size: int, chunk_bytes: int) -> None:
    if -(-size // chunk_bytes) > 65_536:
        return
    absent = Absent(digest="0f" * 32, size=size, chunk_bytes=chunk_bytes)
    frame = decode_frame(encode_head(kind, {"n": 1}, absent))
    assert (frame.kind, dict(frame.header), bytes(frame.body)) == (kind, {"n": 1}, b"")
    assert frame.absent == absent


def test_a_head_says_of_its_body_what_the_contract_says() -> None:
    absent = Absent(digest="0f" * 32, size=5, chunk_bytes=2)
    header = b"\xa3\x62bz\x05\x62cb\x02\x66sha256\x58\x20" + b"\x0f" * 32
    expected = b"FS\x01\x05" + len(header).to_bytes(4, "little") + header
    assert encode_head(5, {}, absent) == expected


def test_a_frame_that_has_its_body_is_no_head() -> None:
    assert decode_frame(encode_frame(5, {"a": 1}, b"xy")).absent is None


HEAD = {SHA256: b"\x0f" * 32, SIZE: 100, CHUNK_BYTES: 50}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({SHA256: None}, "without the SHA-256"),
        ({SHA256: b"\x0f" * 31}, "without the SHA-256"),
        ({SHA256: "0f" * 32}, "without the SHA-256"),
        ({SIZE: 1.0}, "no integers"),
        ({SIZE: True}, "no integers"),
        ({SIZE: None}, "no integers"),
        ({SIZE: 0}, "a head of 0 bytes"),
        ({SIZE: -1}, "a head of -1 bytes"),
        ({SIZE: 2**40}, "a head of 1099511627776 bytes"),
        ({CHUNK_BYTES: "50"}, "no integers"),
        ({CHUNK_BYTES: 0}, "in chunks of 0"),
        ({CHUNK_BYTES: -1}, "in chunks of -1"),
        ({CHUNK_BYTES: 262_145}, "in chunks of 262145"),
        ({SIZE: 65_537, CHUNK_BYTES: 1}, "65537 chunks, limit 65536"),
    ],
)
def test_a_head_of_something_impossible_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        decode_frame(encode_frame(5, {**HEAD, **change}))
    assert decode_frame(encode_frame(5, HEAD)).absent is not None


@pytest.mark.parametrize("key", [SHA256, CHUNK_BYTES])
def test_a_head_that_lacks_a_key_is_refused(key: str) -> None:
    with pytest.raises(RemoteProtocolError, match="a head"):
        decode_frame(encode_frame(5, {name: HEAD[name] for name in HEAD if name != key}))


def test_a_head_with_a_body_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="a head with a body of 2 bytes"):
        decode_frame(encode_frame(5, HEAD, b"xy"))
