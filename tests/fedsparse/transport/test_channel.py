"""Messages over the in-memory broker, with a clock that the tests move."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fedsparse.wire.reassembly import Limits

from fedsparse.errors import LocalProtocolError, TransportError
from fedsparse.transport.base import Connected, Disconnected, publish_packet_bytes
from fedsparse.transport.channel import (
    MAX_PAYLOAD_BYTES,
    Channel,
    ChannelEvent,
    ChannelOptions,
    Delivered,
    Rejected,
    status_will,
)
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.wire.headers import decode_message, encode_message
from fedsparse.wire.messages import (
    Failure,
    LastDecision,
    Message,
    Need,
    Offer,
    Part,
    Ready,
    Receipt,
    Stage,
    Status,
    Task,
    Update,
    Verdict,
)
from fedsparse.wire.topics import Branch, Topics
from fedsparse.wire.transfer import Outgoing

TOPICS = Topics("home")
DIGEST = hashlib.sha256(b"").hexdigest()
SMALL = ChannelOptions(inline_bytes=500, chunk_bytes=100, window=2, in_flight_bytes=350)
FAILURE = Failure(job="watch", round_id=1, reason="x")
RECEIPT = Receipt(job="watch", round_id=1, update_digest=DIGEST, verdict=Verdict.ACCEPTED)


def update(body: bytes) -> Update:
    return Update(
        job="watch", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=9, mask_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=len(body)),),
    )  # fmt: skip


def task(body: bytes) -> Task:
    return Task(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=len(body)),),
    )  # fmt: skip


class World:
    """A gateway, and devices by name, on one broker and one clock."""

    def __init__(self, folder: Path, broker: MemoryBroker) -> None:
        self.now_s = 0.0
        self.broker = broker
        self.channels: list[Channel] = []
        self.folder = folder
        self.transports: dict[str, MemoryTransport] = {}
        self.gateway = self._channel("")
        self.gateway.start()

    def device(self, name: str, options: ChannelOptions = SMALL) -> Channel:
        channel = self._channel(name, options)
        channel.start()
        return channel

    def _channel(self, name: str, options: ChannelOptions = SMALL) -> Channel:
        status = Status(device=name, online=True, board="pi") if name else None
        self.transports[name] = MemoryTransport(
            self.broker,
            client_id=name or "the gateway",
            will=status_will(TOPICS, status) if status else None,
        )
        channel = Channel(
            self.transports[name], TOPICS, device=name, spool=self.folder / (name or "gateway"),
            status=status, options=options, clock=lambda: self.now_s,
        )  # fmt: skip
        self.channels.append(channel)
        return channel

    def inject(self, topic: str, payload: bytes) -> None:
        self.broker.route(topic, payload, retain=False)

    def close(self) -> None:
        for channel in self.channels:
            channel.close()


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Callable[[MemoryBroker], World]]:
    made: list[World] = []

    def make(broker: MemoryBroker) -> World:
        made.append(World(tmp_path, broker))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(worlds: Callable[[MemoryBroker], World]) -> World:
    return worlds(MemoryBroker())


def drain(*channels: Channel) -> list[ChannelEvent]:
    """All events of all channels, until nothing moves any more."""
    found: list[ChannelEvent] = []
    quiet = 0
    while quiet <= len(channels):
        for channel in channels:
            quiet += 1
            while (event := channel.poll(0.0)) is not None:
                found.append(event)
                quiet = 0
    return found


def delivered(*channels: Channel) -> list[Message]:
    return [event.message for event in drain(*channels) if isinstance(event, Delivered)]


def test_a_device_announces_itself_and_its_end(world: World) -> None:
    device = world.device("pi")
    assert delivered(device, world.gateway) == [Status(device="pi", online=True, board="pi")]
    device.close()
    assert delivered(world.gateway) == [Status(device="pi", online=False, board="pi")]


def test_a_device_says_what_it_decided_now_and_after_every_connect(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    decision = LastDecision(job="job", round_id=3, level=0.1, reason="it fits")
    device.announce(decision)
    expected = Status(device="pi", online=True, board="pi", decision=decision)
    assert delivered(device, world.gateway) == [expected]
    world.broker.cut(world.transports["pi"])
    drain(world.gateway)
    assert expected in delivered(device, world.gateway)


def test_the_gateway_has_no_status(world: World) -> None:
    with pytest.raises(LocalProtocolError, match="no status"):
        world.gateway.announce(LastDecision(job="job", round_id=3, level=None))


def test_a_device_that_vanishes_goes_offline_and_comes_back(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    world.broker.cut(world.transports["pi"])
    assert delivered(world.gateway) == [Status(device="pi", online=False, board="pi")]
    events = drain(device)
    assert [type(event) for event in events] == [Disconnected, Connected]
    assert delivered(world.gateway) == [Status(device="pi", online=True, board="pi")]


def test_a_gateway_that_starts_later_learns_who_is_there(world: World) -> None:
    world.gateway.close()
    drain(world.device("pi"), world.device("nano"))
    world.gateway = world._channel("")
    world.gateway.start()
    found = [event for event in drain(world.gateway) if isinstance(event, Delivered)]
    assert {event.device for event in found if event.retained} == {"pi", "nano"}


def test_an_offer_reaches_everyone_now_and_later(world: World) -> None:
    offer = Offer(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST, levels=(0.1,),
        mask_digests=("",), kept=((3,),), batch_size=1, epochs=1, seconds_left=9.0,
    )  # fmt: skip
    early = world.device("early")
    world.gateway.send(None, offer)
    late = world.device("late")
    for device in (early, late):
        [event] = [event for event in drain(device) if isinstance(event, Delivered)]
        assert (event.message, event.device, event.retained) == (offer, "", device is late)


def test_messages_go_to_the_one_device_they_are_for(world: World) -> None:
    devices = {name: world.device(name) for name in ("pi", "nano")}
    body = b"1234"
    world.gateway.send("pi", task(body), body)
    [event] = [event for event in drain(devices["pi"]) if isinstance(event, Delivered)]
    assert (event.device, event.message, bytes(event.body)) == ("pi", task(body), body)
    assert decode_message(event.frame) == (task(body), memoryview(body))
    assert delivered(devices["nano"]) == []


@pytest.mark.parametrize("duplicates", [False, True])
def test_a_large_message_arrives_whole_both_ways(
    worlds: Callable[[MemoryBroker], World], duplicates: bool
) -> None:
    world = worlds(MemoryBroker(duplicates=duplicates))
    device = world.device("pi")
    drain(device, world.gateway)
    body = random.Random(1).randbytes(5_000)
    device.send(None, update(body), body)
    world.gateway.send("pi", task(body), body)
    found = [e for e in drain(device, world.gateway) if isinstance(e, Delivered)]
    assert [event.device for event in found] == ["pi", "pi"]
    assert {type(event.message) for event in found} == {Update, Task}
    assert all(bytes(event.body) == body for event in found)
    assert device.rejected == world.gateway.rejected == {}


def test_a_control_message_passes_between_the_chunks(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    body = bytes(5_000)
    device.send(None, update(body), body)
    device.send(None, FAILURE)
    assert delivered(device, world.gateway) == [FAILURE, update(body)]


def test_the_windows_bound_what_is_in_flight(world: World) -> None:
    devices = [world.device(name) for name in ("a", "b", "c")]
    drain(*devices, world.gateway)
    body = bytes(1_000)
    before = dict(world.gateway._chunks)
    for name in ("a", "b", "c"):
        world.gateway.send(name, task(body), body)
    assert before == {}
    assert [peer for peer, _, _ in world.gateway._chunks.values()] == ["a", "a", "b"]
    assert delivered(*devices, world.gateway) == [task(body)] * 3


def test_a_chunk_that_a_full_queue_refuses_goes_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    transport = world.transports["pi"]
    publish, refused = transport.publish, 0

    def sometimes(topic: str, payload: bytes, *, retain: bool = False) -> int:
        nonlocal refused
        if refused < 3 and "/chunk/" in topic:
            refused += 1
            raise TransportError("too many payloads wait")
        return publish(topic, payload, retain=retain)

    monkeypatch.setattr(transport, "publish", sometimes)
    body = bytes(2_000)
    device.send(None, update(body), body)
    assert delivered(device, world.gateway) == []
    for _ in range(2):
        world.now_s += 1.5
        assert delivered(device, world.gateway) == []
    world.now_s += 1.5
    assert delivered(device, world.gateway) == [update(body)]
    assert refused == 3


def test_a_transfer_goes_on_where_its_sender_was_restarted_in_mid_transfer(world: World) -> None:
    """Its chunks are the same, whatever its link was like."""
    body = random.Random(3).randbytes(200_000)
    device = world.device("pi", ChannelOptions())
    drain(device, world.gateway)
    frame = encode_message(update(body), body)
    for index in (3, 7):
        world.broker.lose.add(
            TOPICS.chunk(Branch.UP, "pi", hashlib.sha256(frame).hexdigest(), index)
        )
    device.send(None, update(body), body)
    assert delivered(device, world.gateway) == []
    world.broker.cut(world.transports["pi"])
    again = world.device("pi", ChannelOptions())
    drain(again, world.gateway)
    again._pace.limit_bytes = 16_384
    before = again.traffic["pi"].sent_bytes
    again.send(None, update(body), body)
    assert update(body) in delivered(again, world.gateway)
    assert again.traffic["pi"].sent_bytes > before
    assert world.gateway.rejected == {}


def test_small_chunks_do_not_keep_larger_ones_waiting_that_came_before(world: World) -> None:
    device = world.device("pi", replace(SMALL, in_flight_bytes=650))
    drain(device, world.gateway)
    large, small = bytes(2_000), bytes(1_000)
    device._options = replace(SMALL, window=1, chunk_bytes=400)
    device.send(None, update(large), large)
    device._options = SMALL
    device.send(None, update(small), small)
    assert len(device._chunks) == 1 + 2
    device._pace.limit_bytes = device._pace._most_bytes = 350  # less than a large chunk
    assert delivered(device, world.gateway) == [update(large), update(small)]


def test_lost_chunks_are_asked_for_and_sent_again(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    body = random.Random(2).randbytes(2_000)
    frame = encode_message(update(body), body)
    transfer = hashlib.sha256(frame).hexdigest()
    for index in (0, 7):
        world.broker.lose.add(TOPICS.chunk(Branch.UP, "pi", transfer, index))
    device.send(None, update(body), body)
    assert delivered(device, world.gateway) == []
    world.now_s += Limits().stall_s - 1.0
    assert delivered(world.gateway, device) == []
    sent_before = device.traffic["pi"].sent_bytes
    world.now_s += 2.0
    assert delivered(world.gateway, device) == [update(body)]
    assert device.traffic["pi"].sent_bytes - sent_before < 3 * 300  # two chunks, not all


def test_a_transfer_goes_on_after_a_reconnect_without_a_session(
    worlds: Callable[[MemoryBroker], World],
) -> None:
    world = worlds(MemoryBroker(sessions=False))
    device = world.device("pi")
    drain(device, world.gateway)
    body = random.Random(3).randbytes(3_000)
    transfer = hashlib.sha256(encode_message(task(body), body)).hexdigest()
    for index in (0, 7, 20):
        world.broker.lose.add(TOPICS.chunk(Branch.DOWN, "pi", transfer, index))
    world.gateway.send("pi", task(body), body)
    assert delivered(device, world.gateway) == []
    world.broker.cut(world.transports["pi"])
    assert task(body) in delivered(device, world.gateway)  # without waiting: the clock stood still


def test_a_repeated_large_message_is_delivered_again(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    body = bytes(1_000)
    for _ in range(2):
        device.send(None, update(body), body)
        assert delivered(device, world.gateway) == [update(body)]


def test_a_need_for_an_unknown_transfer_is_ignored(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    device.send(None, Need(what="chunks", transfer=DIGEST))
    assert drain(device, world.gateway) == []


def test_a_need_for_a_mask_is_for_the_application(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    device.send(None, Need(what="mask", job="watch", round_id=1))
    assert delivered(world.gateway) == [Need(what="mask", job="watch", round_id=1)]


def test_a_transfer_is_forgotten_when_nobody_asks_about_it(world: World) -> None:
    device = world.device("pi")
    body = bytes(1_000)
    device.send(None, update(body), body)
    drain(device, world.gateway)
    assert device._outbox._entries
    world.now_s += Limits().idle_s + 1
    drain(device)
    assert not device._outbox._entries


def bad_payloads() -> dict[str, tuple[str, bytes, str]]:
    up = TOPICS.message(Branch.UP, "pi")
    frame = encode_message(update(bytes(300)), bytes(300))
    chunks = [chunk for _, chunk in Outgoing([frame], chunk_bytes=100, window=9).next_chunks()]
    transfer = hashlib.sha256(frame).hexdigest()
    other = Status(device="other", online=False)
    return {
        "garbage": (up, b"garbage garbage", "not a frame"),
        "a huge payload": (up, bytes(MAX_PAYLOAD_BYTES + 1), "send chunks"),
        "a gateway's message": (up, encode_message(RECEIPT), "Receipt on UP"),
        "a status as a message": (up, encode_message(other), "Status on UP"),
        "another's status": (TOPICS.status("pi"), encode_message(other), "claims to be 'other'"),
        "a chunk of another topic": (
            TOPICS.chunk(Branch.UP, "pi", transfer, 1), chunks[0], "does not belong to its topic"
        ),
        "a chunk as a message": (up, chunks[0], "kind 16"),
        "a message as a chunk": (
            TOPICS.chunk(Branch.UP, "pi", transfer, 1), encode_message(FAILURE), "kind 6"
        ),
        "a bad name": ("fl/v1/home/up/..evil/message", encode_message(FAILURE), "no topic"),
        "a false bitmap": (
            up, encode_message(Need(what="chunks", transfer="f" * 64, missing=bytes(9))), ""
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(bad_payloads()))
def test_what_breaks_the_contract_is_counted_and_dropped(world: World, name: str) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    topic, payload, reason = bad_payloads()[name]
    world.inject(topic, payload)
    device.send(None, FAILURE)
    events = drain(world.gateway)
    assert isinstance(events[-1], Delivered)
    assert events[-1].message == FAILURE
    if not reason:
        assert len(events) == 1
        return
    assert isinstance(events[0], Rejected)
    assert reason in events[0].reason
    assert events[0].device == ("" if name == "a bad name" else "pi")
    assert world.gateway.rejected == {events[0].device: 1}


def test_a_bitmap_longer_than_its_transfer_is_rejected(world: World) -> None:
    device = world.device("pi")
    body = bytes(1_000)
    device.send(None, update(body), body)
    drain(device, world.gateway)
    transfer = hashlib.sha256(encode_message(update(body), body)).hexdigest()
    world.gateway.send("pi", Need(what="chunks", transfer=transfer, missing=bytes(99)))
    [event] = drain(device)
    assert isinstance(event, Rejected)
    assert "bitmap of 99 bytes" in event.reason


def test_a_whole_transfer_that_is_no_message_is_rejected(world: World) -> None:
    outgoing = Outgoing([b"x" * 250], chunk_bytes=100)
    for index, chunk in outgoing.next_chunks():
        world.inject(TOPICS.chunk(Branch.UP, "pi", outgoing.transfer, index), chunk)
    rejected = [event for event in drain(world.gateway) if isinstance(event, Rejected)]
    assert [(event.device, event.reason) for event in rejected] == [
        ("pi", "not a frame: it starts with b'xx'")
    ]


def test_each_end_sends_only_its_own_messages(world: World) -> None:
    device = world.device("pi")
    with pytest.raises(LocalProtocolError, match="a device does not send Receipt"):
        device.send(None, RECEIPT)
    with pytest.raises(LocalProtocolError, match="the gateway does not send Failure"):
        world.gateway.send("pi", FAILURE)


def test_whole_packets_are_counted_by_device(world: World) -> None:
    device = world.device("pi")
    drain(device, world.gateway)
    before = device.traffic["pi"].sent_bytes
    ready = Ready(job="watch", round_id=1, attempt=0, level=None)
    device.send(None, ready)
    topic = TOPICS.message(Branch.UP, "pi")
    size = publish_packet_bytes(topic, len(encode_message(ready)))
    drain(world.gateway)
    assert device.traffic["pi"].sent_bytes - before == size
    assert world.gateway.traffic["pi"].received_bytes == before + size
    assert world.gateway.traffic["pi"].sent_bytes == 0


def test_flush_waits_for_the_broker(world: World) -> None:
    device = world.device("pi")
    body = bytes(1_000)
    device.send(None, update(body), body)
    assert device.flush(1.0)
    world.broker.stop()
    device.send(None, FAILURE)
    assert not device.flush(1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"inline_bytes": 0},
        {"chunk_bytes": MAX_PAYLOAD_BYTES},
        {"window": 0},
        {"in_flight_bytes": 0},
    ],
)
def test_senseless_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        ChannelOptions(**options)


@pytest.mark.parametrize(
    ("size_bytes", "chunk_bytes", "window"),
    [(70_000, 16_384, 4), (1_600_000, 16_384, 4), (4_000_000, 40_000, 4), (8_000_000, 65_536, 4),
     (45_000_000, 65_536, 27)],
)  # fmt: skip
def test_a_window_of_chunks_is_a_small_part_of_a_transfer(
    size_bytes: int, chunk_bytes: int, window: int
) -> None:
    assert ChannelOptions().cut(size_bytes) == (chunk_bytes, window)
    assert ChannelOptions(chunk_bytes=1_000).cut(70_000) == (1_000, 4)


@pytest.mark.parametrize(("body_bytes", "chunk_bytes"), [(70_000, 16_384), (4_000_000, 40_001)])
def test_chunks_on_their_way_are_as_large_as_the_rule_says(
    world: World, body_bytes: int, chunk_bytes: int
) -> None:
    device = world.device("pi", ChannelOptions())
    body = bytes(body_bytes)
    device.send(None, update(body), body)
    [entry] = device._outbox._entries.values()
    assert entry.outgoing.chunk_bytes == chunk_bytes
    assert update(body) in delivered(device, world.gateway)


@pytest.mark.parametrize(("more_bytes", "chunks"), [(0, []), (1, [5])])
def test_a_frame_of_64_kib_is_the_largest_that_is_sent_whole(
    world: World, more_bytes: int, chunks: list[int]
) -> None:
    device = world.device("pi", ChannelOptions())
    head = len(encode_message(update(bytes(65_000)), bytes(65_000))) - 65_000
    body = bytes(64 * 1024 - head + more_bytes)
    assert len(encode_message(update(body), body)) == 64 * 1024 + more_bytes
    device.send(None, update(body), body)
    assert [entry.outgoing.count for entry in device._outbox._entries.values()] == chunks
    assert update(body) in delivered(device, world.gateway)


def test_an_offer_is_sent_whole_however_large_it_is(world: World) -> None:
    """Only a whole message can be retained."""
    offer = Offer(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST, levels=(0.1,),
        mask_digests=("",), kept=((3,) * 600,), batch_size=1, epochs=1, seconds_left=9.0,
    )  # fmt: skip
    assert len(encode_message(offer)) > SMALL.inline_bytes
    world.gateway.send(None, offer)
    assert offer in delivered(world.device("late"))
