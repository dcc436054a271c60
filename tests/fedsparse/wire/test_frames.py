from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire.frame import (
    CHUNK,
    MAX_HEADER_BYTES,
    SHA256,
    UnsupportedVersionError,
    decode_frame,
    encode_frame,
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
