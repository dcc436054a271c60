"""Chunks and what is asked for: what is cut fits together, what is asked for is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.errors import ProtocolError, RemoteProtocolError
from fedsparse.wire.frame import MAX_CHUNK_BYTES, MAX_CHUNKS, Absent
from fedsparse.wire.headers import decode_message, encode_message
from fedsparse.wire.messages import Need
from fedsparse.wire.transfer import ask_for, asked_for, decode_chunk, encode_chunk

DIGEST = "ab" * 32


@given(size=st.integers(1, 5_000), chunk_bytes=st.integers(1, 900))
def test_the_chunks_of_a_body_cover_it_without_gaps_or_overlaps(
    size: int, chunk_bytes: int
) -> None:
    absent = Absent(digest=DIGEST, size=size, chunk_bytes=chunk_bytes)
    end = 0
    for index in range(absent.count):
        assert absent.offset(index) == end
        assert 1 <= absent.length(index) <= chunk_bytes
        end += absent.length(index)
    assert end == size
    assert all(absent.length(index) == chunk_bytes for index in range(absent.count - 1))


@pytest.mark.parametrize(
    ("size", "chunk_bytes"),
    [(0, 1), (-1, 1), (2**40, MAX_CHUNK_BYTES), (1, 0), (1, -1), (1, MAX_CHUNK_BYTES + 1),
     (MAX_CHUNKS + 1, 1)],
)  # fmt: skip
def test_a_body_that_nobody_could_send_is_refused(size: int, chunk_bytes: int) -> None:
    with pytest.raises(ProtocolError, match="chunks"):
        Absent(digest=DIGEST, size=size, chunk_bytes=chunk_bytes)


def test_the_largest_number_of_chunks_can_be_asked_for_at_once() -> None:
    absent = Absent(digest=DIGEST, size=MAX_CHUNKS, chunk_bytes=1)
    need = ask_for(DIGEST, range(absent.count))
    decoded, _ = decode_message(encode_message(need))
    assert isinstance(decoded, Need)
    assert list(asked_for(decoded, absent.count)) == list(range(MAX_CHUNKS))


@given(st.binary(max_size=300))
def test_a_chunk_survives_the_way(payload: bytes) -> None:
    assert bytes(decode_chunk(encode_chunk(payload))) == payload


@given(payload=st.binary(min_size=1, max_size=60), data=st.data())
def test_every_flipped_bit_of_a_chunk_is_noticed(payload: bytes, data: st.DataObject) -> None:
    chunk = bytearray(encode_chunk(payload))
    at = data.draw(st.integers(0, 8 * len(chunk) - 1))
    chunk[at // 8] ^= 1 << at % 8
    with pytest.raises(RemoteProtocolError):
        decode_chunk(bytes(chunk))


indices = st.sets(st.integers(0, 3_000), min_size=1, max_size=60)


@given(wanted=indices, more=st.integers(0, 20))
def test_what_is_asked_for_is_what_is_found_in_the_message(wanted: set[int], more: int) -> None:
    need, _ = decode_message(encode_message(ask_for(DIGEST, wanted)))
    assert isinstance(need, Need)
    assert (need.what, need.transfer, need.first) == ("chunks", DIGEST, min(wanted))
    assert need.missing[-1] != 0
    assert list(asked_for(need, max(wanted) + 1 + more)) == sorted(wanted)


@given(indices)
def test_a_chunk_beyond_the_body_is_refused_wherever_it_stands_in_the_bitmap(
    wanted: set[int],
) -> None:
    with pytest.raises(RemoteProtocolError, match=f"asked for of {max(wanted)}$"):
        list(asked_for(ask_for(DIGEST, wanted), max(wanted)))


@pytest.mark.parametrize(
    ("first", "missing", "count"),
    [(0, b"\0", 10), (0, b"\1\0", 10), (8, b"\1\1", 10), (10, b"\1", 10), (2**20 - 1, b"\1", 9)],
)
def test_a_bitmap_that_the_contract_does_not_know_is_refused(
    first: int, missing: bytes, count: int
) -> None:
    need = Need(what="chunks", transfer=DIGEST, first=first, missing=missing)
    with pytest.raises(RemoteProtocolError, match=f"asked for of {count}$"):
        list(asked_for(need, count))


def test_nobody_asks_for_nothing() -> None:
    assert list(asked_for(Need(what="chunks", transfer=DIGEST), 10)) == []


def test_a_chunk_costs_a_few_bytes_more_than_its_payload() -> None:
    assert len(encode_chunk(bytes(16_384))) <= 16_384 + 20
