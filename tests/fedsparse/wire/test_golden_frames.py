"""The bytes of tests/golden/wire are the contract: when one changes, so must the version."""

from __future__ import annotations

from pathlib import Path

import pytest
from message_strategies import EXAMPLES, body_of

from fedsparse.wire.frame import VERSION
from fedsparse.wire.headers import decode_message, encode_message
from fedsparse.wire.transfer import Outgoing, decode_chunk

GOLDEN = Path(__file__).parents[2] / "golden" / "wire"
CHUNKED = bytes(range(256)) * 5


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def chunks() -> dict[str, bytes]:
    outgoing = Outgoing([CHUNKED], chunk_bytes=512)
    return {f"chunk_{index}": frame for index, frame in outgoing.next_chunks()}


def test_there_is_a_golden_file_for_each_example_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(EXAMPLES) | set(chunks())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_message_is_encoded_to_its_golden_bytes_and_back(name: str) -> None:
    assert VERSION == 1
    message = EXAMPLES[name]
    assert encode_message(message, body_of(message)).hex() == golden(name).hex()
    assert decode_message(golden(name)) == (message, memoryview(body_of(message)))


@pytest.mark.parametrize("name", sorted(chunks()))
def test_a_chunk_is_encoded_to_its_golden_bytes_and_back(name: str) -> None:
    assert chunks()[name].hex() == golden(name).hex()
    chunk = decode_chunk(golden(name))
    assert chunk.payload == CHUNKED[chunk.offset : chunk.offset + 512]
    assert (chunk.count, chunk.total) == (3, len(CHUNKED))
