"""Whatever a peer sends, decoding it yields a message or a `RemoteProtocolError`."""

from __future__ import annotations

import contextlib
import random

import pytest
from message_strategies import EXAMPLES, HEADS, body_of

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.frame import PROLOGUE
from fedsparse.wire.headers import (
    decode_envelope,
    decode_message,
    encode_message,
    encode_message_head,
)
from fedsparse.wire.messages import Need
from fedsparse.wire.topics import Topics
from fedsparse.wire.transfer import asked_for, decode_chunk, encode_chunk

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


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_mutated_head_raises_nothing_but_a_remote_error(name: str) -> None:
    draw = random.Random(name)
    good = encode_message_head(*HEADS[name])
    refused = 0
    for _ in range(MUTANTS):
        bad = mutated(good, draw)
        if draw.random() < 0.5:
            bad = with_true_header_length(bad, len(bad) - PROLOGUE.size)
        try:
            decode_envelope(bad)
        except RemoteProtocolError:
            refused += 1
    assert refused > MUTANTS / 4


def test_whatever_bitmap_comes_only_chunks_that_exist_are_found() -> None:
    draw = random.Random("need")
    refused = 0
    for _ in range(MUTANTS):
        count = draw.randrange(1, 100)
        need = Need(
            what="chunks", first=draw.randrange(60), missing=draw.randbytes(draw.randrange(9))
        )
        try:
            assert set(asked_for(need, count)) <= set(range(count))
        except RemoteProtocolError:
            refused += 1
    assert MUTANTS / 4 < refused < MUTANTS


def test_a_mutated_chunk_raises_nothing_but_a_remote_error() -> None:
    draw = random.Random("chunk")
    good = encode_chunk(b"abcdefgh" * 30)
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
