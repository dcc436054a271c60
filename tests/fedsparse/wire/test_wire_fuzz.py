"""Whatever a peer sends, decoding it yields a message or a `RemoteProtocolError`."""

from __future__ import annotations

import contextlib
import random

import pytest
from message_strategies import EXAMPLES, body_of

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.frame import PROLOGUE
from fedsparse.wire.headers import decode_message, encode_message
from fedsparse.wire.topics import Topics
from fedsparse.wire.transfer import Outgoing, decode_chunk

MUTANTS = 1_500  # of each of the examples


def mutated(data: bytes, draw: random.Random) -> bytes:
    """`data` with one to three bytes changed, cut out, doubled or put in."""
    bad = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(bad))
        way = draw.randrange(5)
        if way == 0:
            bad[at] = draw.randrange(256)
        elif way == 1:
            bad[at] ^= 1 << draw.randrange(8)
        elif way == 2:
            del bad[at : at + draw.randint(1, 9)]
        elif way == 3:
            bad[at:at] = draw.randbytes(draw.randint(1, 9))
        else:
            bad[at:at] = bad[at : at + draw.randint(1, 9)]
        if not bad:
            return b""
    return bytes(bad)


def with_true_header_length(data: bytes, size: int) -> bytes:
    """The mutated frame with the length that lets the header be parsed."""
    return data[:4] + max(0, size).to_bytes(4, "little") + data[8:]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_mutated_message_raises_nothing_but_a_remote_error(name: str) -> None:
    draw = random.Random(name)
    body = body_of(EXAMPLES[name])
    good = encode_message(EXAMPLES[name], body)
    refused = 0
    for _ in range(MUTANTS):
        bad = mutated(good, draw)
        if draw.random() < 0.5:
            bad = with_true_header_length(bad, len(bad) - PROLOGUE.size - len(body))
        try:
            decode_message(bad)
        except RemoteProtocolError:
            refused += 1
    assert refused > MUTANTS / 4


def test_a_mutated_chunk_raises_nothing_but_a_remote_error() -> None:
    draw = random.Random("chunk")
    _, good = list(Outgoing([b"abcdefgh" * 30], chunk_bytes=100).next_chunks())[1]
    refused = 0
    for _ in range(MUTANTS):
        try:
            decode_chunk(mutated(good, draw))
        except RemoteProtocolError:
            refused += 1
    assert refused > MUTANTS / 2


def test_random_bytes_and_topics_raise_nothing_but_a_remote_error() -> None:
    draw = random.Random("bytes")
    for _ in range(MUTANTS):
        with contextlib.suppress(RemoteProtocolError):
            decode_message(b"FS\1" + draw.randbytes(draw.randrange(60)))
        with contextlib.suppress(RemoteProtocolError):
            Topics("home").parse(mutated(b"fl/v1/home/up/pi/message", draw).decode("latin-1"))
