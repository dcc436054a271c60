"""The bytes of tests/golden/wire are the contract: when one changes, so must the version."""

from __future__ import annotations

from pathlib import Path

import pytest
from message_strategies import EXAMPLES, HEADS, body_of

from fedsparse.body import Bytes
from fedsparse.wire.frame import VERSION, Absent
from fedsparse.wire.headers import (
    decode_envelope,
    decode_message,
    encode_message,
    encode_message_head,
)
from fedsparse.wire.transfer import decode_chunk, encode_chunk

GOLDEN = Path(__file__).parents[2] / "golden" / "wire"
BODY = Bytes(bytes(range(256)) * 5)


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def chunks() -> dict[str, bytes]:
    absent = Absent(digest=BODY.digest, size=BODY.size, chunk_bytes=512)
    return {
        f"chunk_{index}": BODY.read(absent.offset(index), absent.length(index))
        for index in range(absent.count)
    }


def test_there_is_a_golden_file_for_each_example_and_no_other() -> None:
    names = {*EXAMPLES, *HEADS, *chunks()}
    assert {path.stem for path in GOLDEN.iterdir()} == names


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_message_is_encoded_to_its_golden_bytes_and_back(name: str) -> None:
    assert VERSION == 1
    message = EXAMPLES[name]
    assert encode_message(message, body_of(message)).hex() == golden(name).hex()
    assert decode_message(golden(name)) == (message, memoryview(body_of(message)))


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_head_is_encoded_to_its_golden_bytes_and_back(name: str) -> None:
    message, absent = HEADS[name]
    assert encode_message_head(message, absent).hex() == golden(name).hex()
    assert decode_envelope(golden(name)) == (message, absent)


@pytest.mark.parametrize("name", sorted(chunks()))
def test_a_chunk_is_encoded_to_its_golden_bytes_and_back(name: str) -> None:
    payload = chunks()[name]
    assert encode_chunk(payload).hex() == golden(name).hex()
    assert decode_chunk(golden(name)) == payload
