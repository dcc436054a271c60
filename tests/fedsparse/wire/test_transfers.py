from __future__ import annotations

import hashlib
import io
import itertools
import random

import pytest
from fedsparse.wire.reassembly import Limits, Reassembly
from hypothesis import given
from hypothesis import strategies as st

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire.transfer import MAX_CHUNKS, Incoming, Outgoing, decode_chunk

frames = st.binary(min_size=1, max_size=2_000)
chunk_sizes = st.integers(1, 300)


def all_chunks(frame: bytes, chunk_bytes: int) -> list[bytes]:
    outgoing = Outgoing([frame], chunk_bytes=chunk_bytes, window=10_000)
    return [chunk for _, chunk in outgoing.next_chunks()]


def reassembly(**limits: float) -> Reassembly:
    return Reassembly(Limits(**limits), io.BytesIO)  # type: ignore[arg-type]


@given(frame=frames, chunk_bytes=chunk_sizes, seed=st.integers(0, 999), loss=st.floats(0.0, 0.9))
def test_a_transfer_survives_loss_duplication_and_reordering(
    frame: bytes, chunk_bytes: int, seed: int, loss: float
) -> None:
    draw = random.Random(seed)
    outgoing = Outgoing([frame], chunk_bytes=chunk_bytes, window=5)
    receiver = reassembly()
    received: list[bytes] = []
    for now_s in range(0, 100_000, 10):
        network: list[bytes] = []
        while sent := list(outgoing.next_chunks()):
            network += [chunk for _, chunk in sent for _ in range(draw.randint(1, 2))]
            for index, _ in sent:
                outgoing.acknowledged(index)
        draw.shuffle(network)
        for chunk in network:
            if draw.random() >= loss and not received:
                whole = receiver.add(decode_chunk(chunk), float(now_s))
                received += [whole] if whole is not None else []
        if received:
            break
        asked = receiver.stalled(float(now_s) + 10.0)
        outgoing.resend(asked[0][1] if asked else b"")
    assert received == [frame]
    assert len(receiver) == 0


@given(frame=frames, chunk_bytes=chunk_sizes, cut=st.lists(st.integers(0, 2_000), max_size=3))
def test_the_pieces_of_a_frame_make_no_difference(
    frame: bytes, chunk_bytes: int, cut: list[int]
) -> None:
    edges = [0, *sorted(cut), len(frame)]
    pieces = [frame[a:b] for a, b in itertools.pairwise(edges)]
    outgoing = Outgoing(pieces, chunk_bytes=chunk_bytes, window=10_000)
    assert [chunk for _, chunk in outgoing.next_chunks()] == all_chunks(frame, chunk_bytes)
    assert outgoing.transfer == hashlib.sha256(frame).hexdigest()


@given(frame=frames, chunk_bytes=chunk_sizes, window=st.integers(1, 6), seed=st.integers(0, 99))
def test_never_more_than_the_window_is_in_flight(
    frame: bytes, chunk_bytes: int, window: int, seed: int
) -> None:
    draw = random.Random(seed)
    outgoing = Outgoing([frame], chunk_bytes=chunk_bytes, window=window)
    in_flight: list[int] = []
    sent: list[int] = []
    while not outgoing.done:
        fresh = [index for index, _ in outgoing.next_chunks()]
        in_flight += fresh
        sent += fresh
        assert len(in_flight) == min(window, outgoing.count - len(sent) + len(in_flight))
        outgoing.acknowledged(in_flight.pop(draw.randrange(len(in_flight))))
    assert sent == list(range(outgoing.count))


def test_only_the_missing_chunks_are_sent_again() -> None:
    outgoing = Outgoing([b"x" * 1_000], chunk_bytes=100, window=100)
    receiver = reassembly()
    for index, chunk in outgoing.next_chunks():
        outgoing.acknowledged(index)
        if index not in (2, 9):
            assert receiver.add(decode_chunk(chunk), 0.0) is None
    [(transfer, missing)] = receiver.stalled(0.0, at_once=True)
    assert (transfer, missing) == (outgoing.transfer, bytes([0b100, 0b10]))
    outgoing.resend(missing)
    assert [index for index, _ in outgoing.next_chunks()] == [2, 9]


def test_chunks_in_flight_are_not_sent_again() -> None:
    outgoing = Outgoing([b"x" * 1_000], chunk_bytes=100, window=3)
    assert [index for index, _ in outgoing.next_chunks()] == [0, 1, 2]
    outgoing.acknowledged(0)
    outgoing.resend(b"")
    assert [index for index, _ in outgoing.next_chunks()] == [0]


def test_a_bitmap_beyond_the_transfer_is_refused() -> None:
    outgoing = Outgoing([b"x" * 1_000], chunk_bytes=100)
    with pytest.raises(RemoteProtocolError, match="bitmap of 3 bytes for 10 chunks"):
        outgoing.resend(b"\xff\xff\xff")


def test_a_frame_of_too_many_chunks_is_a_bug_here() -> None:
    with pytest.raises(LocalProtocolError, match="chunks"):
        Outgoing([b"x" * (MAX_CHUNKS + 1)], chunk_bytes=1)
    with pytest.raises(LocalProtocolError, match="chunks"):
        Outgoing([b""], chunk_bytes=1)


def test_a_sink_is_written_at_the_chunks_offset_only() -> None:
    chunks = [decode_chunk(chunk) for chunk in all_chunks(b"abcdefghij", 4)]
    sink = io.BytesIO()
    incoming = Incoming(chunks[2], sink)
    assert incoming.add(chunks[2])
    assert sink.getvalue() == b"\0" * 8 + b"ij"
    assert not incoming.complete
    assert incoming.missing() == bytes([0b011])


def test_a_transfer_that_is_not_what_its_id_says_is_dropped() -> None:
    good, other = (all_chunks(text, 4) for text in (b"abcdefgh", b"abcdEFGH"))
    forged = other[1].replace(hashlib.sha256(b"abcdEFGH").digest(), decode_id(good[0]))
    receiver = reassembly()
    assert receiver.add(decode_chunk(good[0]), 0.0) is None
    with pytest.raises(RemoteProtocolError, match="does not match its SHA-256"):
        receiver.add(decode_chunk(forged), 0.0)
    assert len(receiver) == 0


def decode_id(chunk: bytes) -> bytes:
    return bytes.fromhex(decode_chunk(chunk).transfer)


def test_a_transfer_beyond_the_limit_is_refused_before_any_file_is_made() -> None:
    def no_sink() -> io.BytesIO:
        raise AssertionError("a file was made")

    receiver = Reassembly(Limits(transfer_bytes=999), no_sink)
    with pytest.raises(RemoteProtocolError, match="1000 bytes, limit 999"):
        receiver.add(decode_chunk(all_chunks(b"x" * 1_000, 500)[0]), 0.0)


def test_one_transfer_too_many_closes_the_one_that_is_idle_longest() -> None:
    receiver = reassembly(open_transfers=2)
    first, second, third = (all_chunks(text * 10, 5) for text in (b"a", b"b", b"c"))
    receiver.add(decode_chunk(first[0]), 0.0)
    receiver.add(decode_chunk(second[0]), 1.0)
    receiver.add(decode_chunk(third[0]), 2.0)
    assert receiver.add(decode_chunk(second[1]), 3.0) == b"b" * 10
    assert receiver.add(decode_chunk(first[1]), 3.0) is None  # its first half is gone


def test_all_transfers_together_are_bounded() -> None:
    receiver = reassembly(open_transfers=10, transfer_bytes=1_000)
    for now_s, letter in enumerate(b"abc"):
        receiver.add(decode_chunk(all_chunks(bytes([letter]) * 900, 500)[0]), float(now_s))
    assert len(receiver) == 2


def test_missing_chunks_are_asked_for_again_and_again_until_the_transfer_is_given_up() -> None:
    receiver = reassembly(stall_s=10.0, idle_s=25.0)
    receiver.add(decode_chunk(all_chunks(b"x" * 10, 5)[0]), 0.0)
    asked_at = [now_s for now_s in range(40) if receiver.stalled(float(now_s))]
    assert asked_at == [10, 20]
    assert len(receiver) == 0


def test_late_duplicates_of_a_complete_transfer_ask_for_nothing() -> None:
    receiver = reassembly(stall_s=10.0, idle_s=25.0)
    chunks = [decode_chunk(chunk) for chunk in all_chunks(b"x" * 10, 5)]
    receiver.add(chunks[0], 0.0)
    assert receiver.add(chunks[1], 0.0) == b"x" * 10
    assert receiver.add(chunks[0], 1.0) is None
    assert not receiver.stalled(20.0)
    assert receiver.add(chunks[1], 20.0) == b"x" * 10  # a sender that repeats it all is heard


def test_closing_gives_all_files_back() -> None:
    sinks: list[io.BytesIO] = []

    def open_sink() -> io.BytesIO:
        sinks.append(io.BytesIO())
        return sinks[-1]

    receiver = Reassembly(Limits(), open_sink)
    receiver.add(decode_chunk(all_chunks(b"x" * 10, 5)[0]), 0.0)
    receiver.close()
    assert [sink.closed for sink in sinks] == [True]


@pytest.mark.parametrize("limits", [{"open_transfers": 0}, {"stall_s": 0.0}, {"idle_s": 1.0}])
def test_senseless_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        reassembly(**limits)


def test_a_chunk_that_is_in_flight_is_not_sent_again_though_it_is_asked_for() -> None:
    """Nor is one forgotten that still waits for its turn."""
    outgoing = Outgoing([b"x" * 1_000], chunk_bytes=100, window=3)
    assert [index for index, _ in outgoing.next_chunks()] == [0, 1, 2]
    outgoing.acknowledged(0)
    outgoing.resend(bytes([0b111]))
    sent: list[int] = []
    for index in (1, 2, 0, 3, 4, 5, 6, 7, 8, 9):
        sent += [one for one, _ in outgoing.next_chunks()]
        outgoing.acknowledged(index)
    assert sent == [0, 3, 4, 5, 6, 7, 8, 9]
    assert outgoing.done
