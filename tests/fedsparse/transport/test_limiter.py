"""One who says too much is not heard, and others are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from channel_world import FAILURE, SMALL, TOPICS, World, delivered, drain, some_body, update

from fedsparse.transport.base import publish_packet_bytes
from fedsparse.transport.channel import Channel, Delivered, Rejected
from fedsparse.transport.limiter import (
    LEAST_BYTES_PER_MINUTE,
    MESSAGES_AT_ONCE,
    MESSAGES_PER_S,
    STRANGERS,
    TOLD_AT_ONCE,
    Limiter,
    Telling,
)
from fedsparse.transport.memory import MemoryBroker
from fedsparse.transport.options import ChannelOptions, Limits
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Failure, Status, Update
from fedsparse.wire.topics import Branch
from fedsparse.wire.transfer import encode_chunk

UP = TOPICS.message(Branch.UP, "pi")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def taken(limiter: Limiter, name: str, times: int, size: int = 100) -> int:
    return sum(limiter.takes(name, size) for _ in range(times))


def test_a_device_may_say_much_at_once_and_then_so_much_a_second() -> None:
    clock = Clock()
    limiter = Limiter(1_000, 10, clock)
    limiter.knows("pi")
    assert taken(limiter, "pi", 1_000) == MESSAGES_AT_ONCE
    clock.now_s += 1
    assert taken(limiter, "pi", 1_000) == MESSAGES_PER_S
    clock.now_s += 3_600
    assert taken(limiter, "pi", 1_000) == MESSAGES_AT_ONCE
    clock.now_s -= 3_600  # which a clock must not do
    assert taken(limiter, "pi", 1) == 0


def test_a_device_may_send_two_of_its_largest_bodies_a_minute() -> None:
    clock = Clock()
    size = LEAST_BYTES_PER_MINUTE
    limiter = Limiter(size, 10, clock)
    limiter.knows("pi")
    assert taken(limiter, "pi", 5, size) == 2
    clock.now_s += 30
    assert taken(limiter, "pi", 5, size) == 1


def test_a_known_device_is_heard_whatever_others_and_strangers_say() -> None:
    clock = Clock()
    limiter = Limiter(1_000, 2, clock)
    for name in ("pi", "nano", "one too many"):
        limiter.knows(name)
    assert taken(limiter, "nano", 10_000) == MESSAGES_AT_ONCE
    for index in range(STRANGERS):
        assert limiter.takes(f"invented-{index}", 100)
    assert taken(limiter, "one too many", 1) == 0  # with the strangers
    assert taken(limiter, "pi", 10_000) == MESSAGES_AT_ONCE


def test_what_was_asked_for_does_not_count() -> None:
    limiter = Limiter(1_000, 2, Clock())
    limiter.knows("pi")
    for _ in range(10 * MESSAGES_AT_ONCE):
        assert limiter.takes("pi", 65_536)
        limiter.asked_for("pi", 65_536)
    assert taken(limiter, "pi", 10_000) == MESSAGES_AT_ONCE


def test_the_first_mistakes_are_told_and_then_one_a_minute_with_the_number_of_the_others() -> None:
    clock = Clock()
    telling = Telling(10, clock)
    assert [telling.of("pi") for _ in range(TOLD_AT_ONCE + 3)] == [0] * TOLD_AT_ONCE + [None] * 3
    clock.now_s += 61
    assert [telling.of("pi"), telling.of("pi"), telling.of("nano")] == [3, None, 0]


def test_names_that_are_invented_are_told_as_one() -> None:
    telling = Telling(5, Clock())
    told = [telling.of(f"invented-{index}") for index in range(1_000)]
    assert sum(one is not None for one in told) == 5 + TOLD_AT_ONCE


# In a channel


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, MemoryBroker())
    yield made
    made.close()


@pytest.fixture
def pi(world: World) -> Channel:
    device = world.device("pi")
    drain(device, world.gateway)
    return device


def test_a_flood_is_dropped_unread_and_counted_and_told_in_few_lines(
    world: World, pi: Channel
) -> None:
    nano = world.device("nano")
    drain(nano, world.gateway)
    for _ in range(5_000):
        world.inject(UP, encode_message(FAILURE))
    nano.send(None, FAILURE)
    events = drain(world.gateway, nano)
    heard = [one.device for one in events if isinstance(one, Delivered)]
    told = [one for one in events if isinstance(one, Rejected)]
    assert heard.count("pi") == MESSAGES_AT_ONCE
    assert heard.count("nano") == 1
    assert len(told) == TOLD_AT_ONCE
    assert all("dropped unread" in one.reason for one in told)
    assert world.gateway.rejected["pi"] == 5_000 - MESSAGES_AT_ONCE
    world.now_s += 60
    pi.send(None, FAILURE)
    assert delivered(pi, world.gateway) == [FAILURE]  # it may speak again


@pytest.mark.parametrize("payload", [b"garbage", bytes(2_000_000), encode_message(FAILURE)[:-1]])
def test_bad_payloads_are_all_counted_and_told_in_few_lines(
    world: World, pi: Channel, payload: bytes
) -> None:
    for _ in range(300):
        world.inject(UP, payload)
    told = [one for one in drain(world.gateway) if isinstance(one, Rejected)]
    assert len(told) == TOLD_AT_ONCE
    assert world.gateway.rejected["pi"] == 300
    world.now_s += 61
    world.inject(UP, payload)
    [again] = [one for one in drain(world.gateway) if isinstance(one, Rejected)]
    assert f"and {300 - TOLD_AT_ONCE} more" in again.reason


def test_topics_of_nobody_are_told_in_few_lines(world: World) -> None:
    for index in range(1_000):
        world.inject(f"fl/v1/home/up/..{index}/message", b"x")
    events = drain(world.gateway)
    assert len(events) == 1 + TOLD_AT_ONCE  # Connected


def test_a_body_of_many_chunks_that_were_asked_for_comes_at_once(tmp_path: Path) -> None:
    """Ten times as many chunks as a device may send messages at once."""
    options = ChannelOptions(
        inline_bytes=500, chunk_bytes=100, window=1_000, in_flight_bytes=10**6,
        limits=Limits(transfer_bytes=10**6),
    )  # fmt: skip
    world = World(tmp_path, MemoryBroker(), options=options)
    device, body = world.device("pi"), some_body(100 * 10 * MESSAGES_AT_ONCE)
    drain(device, world.gateway)
    device.send(None, update(body), body)
    found = [one for one in drain(device, world.gateway) if isinstance(one, Delivered)]
    assert [type(one.message) for one in found] == [Update]
    assert not world.gateway.rejected
    world.close()


def test_chunks_that_were_not_asked_for_are_a_flood_like_any_other(
    world: World, pi: Channel
) -> None:
    body = some_body(1_000)
    pi.send(None, update(body), body)
    drain(pi, world.gateway)
    topic = TOPICS.chunk(Branch.UP, "pi", body.digest, 0)
    for _ in range(1_000):
        world.inject(topic, encode_chunk(body.read(0, 100)))
    drain(world.gateway)
    assert world.gateway.rejected["pi"] >= 1_000 - MESSAGES_AT_ONCE


def test_a_chunk_that_was_asked_for_counts_once(world: World, pi: Channel) -> None:
    """The same one again, while its transfer is open, is not what was asked for."""
    body = some_body(1_000)
    pi.send(None, update(body), body)
    world.kill("pi")
    drain(world.gateway)  # it has asked for chunks
    topic = TOPICS.chunk(Branch.UP, "pi", body.digest, 0)
    for _ in range(1_000):
        world.inject(topic, encode_chunk(body.read(0, 100)))
    drain(world.gateway)
    assert world.gateway.rejected["pi"] >= 1_000 - MESSAGES_AT_ONCE


def test_a_thousand_devices_may_say_at_once_that_they_are_there(world: World) -> None:
    for index in range(1_000):
        status = Status(device=f"pi-{index}", online=True)
        world.inject(TOPICS.status(status.device), encode_message(status))
    assert len(delivered(world.gateway)) == 1_000


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    options = replace(SMALL, limits=Limits(transfer_bytes=1_000))
    world = World(tmp_path, MemoryBroker(), options=options)
    device = world.device("pi")
    drain(device, world.gateway)
    payload = bytes(1_000_000)
    number = LEAST_BYTES_PER_MINUTE // publish_packet_bytes(UP, len(payload))
    for _ in range(number + 20):
        world.inject(UP, payload)
    told = [one.reason for one in drain(world.gateway) if isinstance(one, Rejected)]
    assert "not a frame" in told[0]
    world.now_s += 1
    world.inject(UP, encode_message(Failure(job="watch", round_id=1, reason="y")))
    assert len(delivered(world.gateway)) == 1  # half a megabyte is given again in a second
    assert world.gateway.rejected["pi"] == number + 20
    world.close()
