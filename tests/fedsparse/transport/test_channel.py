"""Messages over the in-memory broker, with a clock that the tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from channel_world import (
    DIGEST,
    FAILURE,
    RECEIPT,
    SMALL,
    TOPICS,
    World,
    delivered,
    drain,
    some_body,
    task,
    update,
)

from fedsparse.body import Bytes, File
from fedsparse.errors import LocalProtocolError, TransportError
from fedsparse.transport.base import Connected, Disconnected, Published, publish_packet_bytes
from fedsparse.transport.channel import (
    MAX_PAYLOAD_BYTES,
    Announced,
    Channel,
    Delivered,
    Rejected,
)
from fedsparse.transport.memory import MemoryBroker
from fedsparse.transport.options import ChannelOptions, Limits
from fedsparse.wire.frame import Absent
from fedsparse.wire.headers import encode_message, encode_message_head
from fedsparse.wire.messages import (
    LastDecision,
    Need,
    Offer,
    Ready,
    Stage,
    Status,
    Task,
    Update,
)
from fedsparse.wire.topics import Branch
from fedsparse.wire.transfer import encode_chunk


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


@pytest.fixture
def device(world: World) -> Channel:
    """One that the gateway knows of."""
    device = world.device("pi")
    drain(device, world.gateway)
    return device


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
    world.gateway = world.open("")
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
    body = Bytes(b"1234")
    world.gateway.send("pi", task(body), body)
    [event] = [event for event in drain(devices["pi"]) if isinstance(event, Delivered)]
    assert (event.device, event.message, event.body) == ("pi", task(body), body)
    assert delivered(devices["nano"]) == []


@pytest.mark.parametrize("duplicates", [False, True])
def test_a_large_message_arrives_whole_both_ways(
    worlds: Callable[[MemoryBroker], World], duplicates: bool
) -> None:
    world = worlds(MemoryBroker(duplicates=duplicates))
    device = world.device("pi")
    drain(device, world.gateway)
    body = some_body(5_000)
    device.send(None, update(body), body)
    world.gateway.send("pi", task(body), body)
    found = [e for e in drain(device, world.gateway) if isinstance(e, Delivered)]
    assert {event.device for event in found} == {"pi"}
    assert {type(event.message) for event in found} == {Update, Task}
    assert all(event.body == body for event in found)
    assert device.rejected == world.gateway.rejected == {}


def test_a_large_message_is_announced_before_anything_of_its_body_travels(
    world: World, device: Channel
) -> None:
    body = some_body(2_000)
    before = device.traffic["pi"].sent_bytes
    device.send(None, update(body), body)
    [event] = drain(device, world.gateway, accept=False)
    absent = Absent(digest=body.digest, size=2_000, chunk_bytes=100)
    assert event == Announced(device="pi", message=update(body), absent=absent)
    assert device.traffic["pi"].sent_bytes - before < 400
    assert world.spool("gateway") == []
    world.gateway.accept(event)
    assert delivered(device, world.gateway) == [update(body)]


def test_a_control_message_passes_between_the_chunks(world: World, device: Channel) -> None:
    body = some_body(5_000)
    device.send(None, update(body), body)
    device.send(None, FAILURE)
    assert delivered(device, world.gateway) == [FAILURE, update(body)]


def test_chunks_in_flight_are_few_and_those_of_the_first_body_come_first(
    worlds: Callable[[MemoryBroker], World],
) -> None:
    world = worlds(MemoryBroker())
    devices = [world.device(name, replace(SMALL, in_flight_bytes=10_000)) for name in "abc"]
    drain(*devices, world.gateway)
    body = some_body(1_000)
    for name in "abc":
        world.gateway.send(name, task(body), body)
    for device in devices:
        [head] = drain(device, accept=False)
        assert isinstance(head, Announced)
        device.accept(head)
    assert world.gateway._chunks == {}
    handled = 0
    while world.gateway._chunks == {} or handled < 3:  # three requests, no acknowledgement yet
        event = world.transports[""].receive(0.0)
        assert event is not None
        if not isinstance(event, Published):
            world.gateway._handle(event)
            handled += 1
    assert [peer for peer, _, _ in world.gateway._chunks.values()] == ["a", "a", "b"]


def test_a_chunk_that_a_full_queue_refuses_goes_later(
    world: World, device: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refuse(world, "pi", "/chunk/", 3, monkeypatch)
    body = some_body(2_000)
    device.send(None, update(body), body)
    assert delivered(device, world.gateway) == []
    for _ in range(2):
        world.now_s += 1.5
        assert delivered(device, world.gateway) == []
    world.now_s += 1.5
    assert delivered(device, world.gateway) == [update(body)]
    assert len(refused) == 3


def refuse(
    world: World, name: str, what: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The queue is full for so many payloads to topics like this; their topics."""
    transport = world.transports[name]
    publish, refused = transport.publish, list[str]()

    def sometimes(topic: str, payload: bytes, *, retain: bool = False) -> int:
        if what in topic and len(refused) < times:
            refused.append(topic)
            raise TransportError("too many payloads wait")
        return publish(topic, payload, retain=retain)

    monkeypatch.setattr(transport, "publish", sometimes)
    return refused


def test_a_request_that_a_full_queue_refuses_is_made_again(
    world: World, device: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refuse(world, "", "/message", 1, monkeypatch)
    body = some_body(1_000)
    device.send(None, update(body), body)
    assert delivered(device, world.gateway) == []
    assert len(refused) == 1
    world.now_s += Limits().stall_s + 1
    assert delivered(world.gateway, device) == [update(body)]


def test_a_status_that_a_full_queue_refuses_at_a_reconnect_is_said_a_little_later(
    world: World, device: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refuse(world, "pi", "/status", 2, monkeypatch)
    world.broker.cut(world.transports["pi"])
    drain(device, world.gateway)
    assert len(refused) == 1
    for _ in range(2):
        assert Status(device="pi", online=True, board="pi") not in delivered(world.gateway)
        world.now_s += 1.1
        drain(device)
    assert len(refused) == 2
    assert delivered(world.gateway) == [Status(device="pi", online=True, board="pi")]
    world.now_s += 1.1
    assert delivered(device, world.gateway) == []  # once


def test_small_chunks_do_not_keep_larger_ones_waiting_that_came_before(
    world: World, device: Channel
) -> None:
    device._pace.limit_bytes = device._pace._most_bytes = 350  # type: ignore[attr-defined]
    large, small = some_body(2_000), some_body(1_000)
    device._options = replace(SMALL, window=1, chunk_bytes=400)
    device.send(None, update(large), large)
    device._options = SMALL
    device._pace.limit_bytes = 350
    assert delivered(device, world.gateway) == [update(large)]
    device.send(None, update(small), small)
    assert delivered(device, world.gateway) == [update(small)]


def test_a_repeated_large_message_is_delivered_again(world: World, device: Channel) -> None:
    body = some_body(1_000)
    for _ in range(2):
        device.send(None, update(body), body)
        assert delivered(device, world.gateway) == [update(body)]


def test_a_request_for_an_unknown_body_is_ignored(world: World, device: Channel) -> None:
    device.send(None, Need(what="chunks", transfer=DIGEST, missing=b"\1"))
    world.gateway.send("pi", Need(what="chunks", transfer=DIGEST, missing=b"\1"))
    assert drain(device, world.gateway) == []


def test_a_need_for_a_mask_is_for_the_application(world: World, device: Channel) -> None:
    device.send(None, Need(what="mask", job="watch", round_id=1))
    assert delivered(world.gateway) == [Need(what="mask", job="watch", round_id=1)]


def test_a_body_is_kept_while_it_is_asked_for_and_five_minutes_longer(
    world: World, device: Channel
) -> None:
    body = some_body(1_000)
    device.send(None, update(body), body)
    [head] = drain(device, world.gateway, accept=False)
    assert isinstance(head, Announced)
    for _ in range(3):
        world.now_s += Limits().idle_s - 1
        drain(device)
        world.gateway.send("pi", Need(what="chunks", transfer=body.digest, missing=b"\1"))
        before = device.traffic["pi"].sent_bytes
        drain(device)
        assert device.traffic["pi"].sent_bytes > before
    world.now_s += Limits().idle_s + 2
    drain(device)
    world.gateway.send("pi", Need(what="chunks", transfer=body.digest, missing=b"\1"))
    before = device.traffic["pi"].sent_bytes
    drain(device)
    assert device.traffic["pi"].sent_bytes == before


BODY = some_body(1_000)


def bad_payloads() -> dict[str, tuple[str, bytes, str]]:
    up = TOPICS.message(Branch.UP, "pi")
    other = Status(device="other", online=False)
    absent = Absent(digest=BODY.digest, size=1_000, chunk_bytes=100)
    head = encode_message_head(update(BODY), absent)
    chunk = encode_chunk(BODY.read(0, 100))
    chunk_topic = TOPICS.chunk(Branch.UP, "pi", BODY.digest, 1)
    return {
        "garbage": (up, b"garbage garbage", "not a frame"),
        "a huge payload": (up, bytes(MAX_PAYLOAD_BYTES + 1), "send chunks"),
        "a gateway's message": (up, encode_message(RECEIPT), "Receipt on UP"),
        "a gateway's head": (up, encode_message_head(task(BODY), absent), "Task on UP"),
        "a status as a message": (up, encode_message(other), "Status on UP"),
        "another's status": (TOPICS.status("pi"), encode_message(other), "claims to be 'other'"),
        "a head on the status": (TOPICS.status("pi"), head, "Update on STATUS"),
        "a head as a chunk": (chunk_topic, head, "kind 5"),
        "a chunk as a message": (up, chunk, "kind 16"),
        "a message as a chunk": (chunk_topic, encode_message(FAILURE), "kind 6"),
        "a damaged chunk": (chunk_topic, chunk[:-1], "CRC-32"),
        "a bad name": ("fl/v1/home/up/..evil/message", encode_message(FAILURE), "no topic"),
        "a chunk of no transfer": (f"{chunk_topic}0000000", chunk, "no topic"),
        "chunks of nothing": (
            up, encode_message(Need(what="chunks", transfer="f" * 64, missing=bytes(9))), ""
        ),
        "a good chunk of a body that nobody wants": (chunk_topic, chunk, ""),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(bad_payloads()))
def test_what_breaks_the_contract_is_counted_and_dropped(
    world: World, device: Channel, name: str
) -> None:
    topic, payload, reason = bad_payloads()[name]
    world.inject(topic, payload)
    device.send(None, FAILURE)
    events = drain(world.gateway)
    assert isinstance(events[-1], Delivered)
    assert events[-1].message == FAILURE
    assert world.spool("gateway") == []
    if not reason:
        assert len(events) == 1
        return
    assert isinstance(events[0], Rejected)
    assert reason in events[0].reason
    assert events[0].device == ("" if "no topic" in reason else "pi")
    assert world.gateway.rejected == {events[0].device: 1}


@pytest.mark.parametrize("first", [0, 3])
def test_a_request_for_more_than_a_body_has_is_rejected(
    world: World, device: Channel, first: int
) -> None:
    device.send(None, update(BODY), BODY)
    drain(device, world.gateway, accept=False)
    need = Need(what="chunks", transfer=BODY.digest, first=first, missing=b"\xff\xff")
    world.gateway.send("pi", need)
    [event] = drain(device)
    assert isinstance(event, Rejected)
    assert "asked for of 10" in event.reason


def test_a_body_that_is_too_large_is_rejected_before_anything_is_written(
    world: World, device: Channel
) -> None:
    limits = Limits(transfer_bytes=999)
    world.kill("")
    gateway = world.open("", replace(SMALL, limits=limits))
    drain(gateway)
    device.send(None, update(BODY), BODY)
    events = drain(device, gateway)
    assert isinstance(events[-1], Rejected)
    assert events[-1].reason == "a body of 1000 bytes, limit 999"
    assert world.spool("gateway") == []


def test_a_body_on_the_disk_is_there_until_the_next_event_is_asked_for(
    world: World, device: Channel
) -> None:
    device.send(None, update(BODY), BODY)
    gateway = world.gateway
    file = await_file(gateway, device)
    assert file.path.read_bytes() == BODY.read()
    assert file.verify()
    assert gateway.poll(0.0) is None
    assert not file.path.exists()
    assert world.spool("gateway") == []


def test_a_body_that_was_moved_stays(world: World, device: Channel, tmp_path: Path) -> None:
    device.send(None, update(BODY), BODY)
    kept = await_file(world.gateway, device).path.rename(tmp_path / "kept")
    drain(device, world.gateway)
    assert kept.read_bytes() == BODY.read()
    assert world.spool("gateway") == []


def test_a_body_that_nobody_moved_is_gone_when_the_channel_is_closed(
    world: World, device: Channel
) -> None:
    device.send(None, update(BODY), BODY)
    file = await_file(world.gateway, device)
    world.gateway.close()
    assert not file.path.exists()


def await_file(reader: Channel, writer: Channel) -> File:
    for _ in range(1_000):
        writer.poll(0.0)
        event = reader.poll(0.0)
        if isinstance(event, Announced):
            reader.accept(event)
        if isinstance(event, Delivered) and isinstance(event.body, File):
            return event.body
    raise AssertionError("it did not arrive")


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


def test_flush_waits_for_the_broker(world: World, device: Channel) -> None:
    body = some_body(1_000)
    device.send(None, update(body), body)
    assert device.flush(1.0)
    world.gateway.poll(0.0)
    world.broker.stop()
    device.send(None, FAILURE)
    assert not device.flush(1.0)


def test_flush_waits_for_the_chunks_that_were_asked_for(world: World, device: Channel) -> None:
    body = some_body(1_000)
    device.send(None, update(body), body)
    head = world.gateway.poll(0.0)
    assert isinstance(head, Announced)
    world.gateway.accept(head)
    assert device.flush(1.0)
    assert [event.message for event in drain(world.gateway) if isinstance(event, Delivered)] in (
        [],
        [update(body)],
    )


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
    options = ChannelOptions()
    assert options.chunk_bytes_of(size_bytes, None) == chunk_bytes
    absent = Absent(digest=DIGEST, size=size_bytes, chunk_bytes=chunk_bytes)
    assert options.window_of(absent) == window
    assert ChannelOptions(chunk_bytes=1_000).chunk_bytes_of(70_000, None) == 1_000


@pytest.mark.parametrize("packet_bytes", [8 * 1024, 30_000, 128_000])
@pytest.mark.parametrize("size_bytes", [3_000, 4_200, 8_000, 40_000, 64_000, 300_000])
def test_packets_are_no_larger_than_the_broker_takes(
    worlds: Callable[[MemoryBroker], World], packet_bytes: int, size_bytes: int
) -> None:
    """The broker refuses larger ones."""
    world = worlds(MemoryBroker(packet_bytes=packet_bytes))
    device = world.device("a-name-of-some-length", ChannelOptions())
    drain(device, world.gateway)
    body = Bytes(bytes(size_bytes))
    device.send(None, update(body), body)
    events = drain(device, world.gateway)
    (event,) = [event for event in events if isinstance(event, Delivered)]
    assert event.message == update(body)
    is_apart = any(isinstance(event, Announced) for event in events)
    assert is_apart == (size_bytes > min(64 * 1024, packet_bytes - 4096))


@pytest.mark.parametrize(("body_bytes", "chunk_bytes"), [(70_000, 16_384), (4_000_000, 40_000)])
def test_chunks_on_their_way_are_as_large_as_the_rule_says(
    world: World, body_bytes: int, chunk_bytes: int
) -> None:
    device = world.device("pi", ChannelOptions())
    body = Bytes(bytes(body_bytes))
    device.send(None, update(body), body)
    heads = [e for e in drain(device, world.gateway, accept=False) if isinstance(e, Announced)]
    assert [head.absent.chunk_bytes for head in heads] == [chunk_bytes]
    world.gateway.accept(heads[0])
    assert update(body) in delivered(device, world.gateway)


@pytest.mark.parametrize(("more_bytes", "apart"), [(0, False), (1, True)])
def test_a_body_of_64_kib_is_the_largest_that_is_sent_with_its_message(
    world: World, more_bytes: int, apart: bool
) -> None:
    device = world.device("pi", ChannelOptions())
    body = Bytes(bytes(64 * 1024 + more_bytes))
    device.send(None, update(body), body)
    events = drain(device, world.gateway)
    assert any(isinstance(event, Announced) for event in events) is apart
    assert update(body) in [event.message for event in events if isinstance(event, Delivered)]


def test_an_offer_is_sent_whole_however_large_it_is(world: World) -> None:
    """Only a whole message can be retained."""
    offer = Offer(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST, levels=(0.1,),
        mask_digests=("",), kept=((3,) * 600,), batch_size=1, epochs=1, seconds_left=9.0,
    )  # fmt: skip
    assert len(encode_message(offer)) > SMALL.inline_bytes
    world.gateway.send(None, offer)
    assert offer in delivered(world.device("late"))
