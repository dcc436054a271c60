"""Large bodies from end to end: whatever happens, the same bytes arrive, and little twice."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import tracemalloc
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from channel_world import (
    FAILURE,
    RECEIPT,
    SMALL,
    TOPICS,
    UnrulyBroker,
    World,
    drain,
    file_of,
    some_body,
    steps,
    task,
    update,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.body import Body, Bytes, File, digest_of
from fedsparse.transport.base import Connected, Event, Published, Received, topic_matches
from fedsparse.transport.channel import Announced, Channel, ChannelEvent, Delivered, Rejected
from fedsparse.transport.memory import MemoryBroker
from fedsparse.transport.options import ChannelOptions, Limits
from fedsparse.transport.outbox import Outbox
from fedsparse.wire.frame import Absent
from fedsparse.wire.messages import Message, Need, Update
from fedsparse.wire.transfer import ask_for

CHUNKED = ChannelOptions(inline_bytes=500, chunk_bytes=100, window=4)
Way = Literal["up", "down"]


class Journey:
    """One body on its way through an unruly world, until it is there.

    Attributes:
        found: what was delivered.
    """

    def __init__(self, world: World, way: Way, body: Body) -> None:
        self.world, self.way, self.body = world, way, body
        self.found: list[Delivered] = []
        world.open("pi")
        self.step()

    @property
    def names(self) -> tuple[str, str]:
        """Who sends, who receives."""
        return ("pi", "") if self.way == "up" else ("", "pi")

    def channel(self, name: str) -> Channel:
        transport = self.world.transports[name]
        return next(one for one in self.world.channels if one._transport is transport)

    def send(self) -> None:
        message: Message = update(self.body) if self.way == "up" else task(self.body)
        self.channel(self.names[0]).send(None if self.way == "up" else "pi", message, self.body)

    def step(self) -> None:
        both = [self.channel(name) for name in ("", "pi")]
        for event in steps(*both):
            if isinstance(event, Delivered) and event.body.size:
                self.found.append(event)
            assert not isinstance(event, Rejected), event.reason


@settings(max_examples=40, deadline=None)
@given(
    way=st.sampled_from(["up", "down"]), size=st.integers(501, 5_000), seed=st.integers(0, 9_999),
    loss=st.floats(0.0, 0.5), late=st.floats(0.0, 1.0), twice=st.floats(0.0, 1.0),
    sessions=st.booleans(),
)  # fmt: skip
def test_whatever_happens_to_chunks_links_and_processes_the_same_bytes_arrive(
    way: Way, size: int, seed: int, loss: float, late: float, twice: float, sessions: bool
) -> None:
    """Loss, doubles, other orders; cuts with and without a session; restarts of both ends."""
    broker = UnrulyBroker(seed, loss=loss, late=late, twice=twice, sessions=sessions)
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        journey = Journey(World(Path(folder), broker, CHUNKED), way, some_body(size, seed))
        world = journey.world
        journey.send()
        for _ in range(2_000):
            broker.release()
            journey.step()
            if journey.found:
                break
            world.now_s += draw.choice([0.5, 2.0, 6.0, 40.0])
            if draw.random() < 0.2:
                world.broker.cut(world.transports[draw.choice(["", "pi"])])
            if draw.random() < 0.1:
                name = draw.choice(["", "pi"])
                world.kill(name)
                world.open(name)
            if draw.random() < 0.2:
                journey.send()  # as an application does that got no answer
        assert journey.found
        assert all(event.body == journey.body for event in journey.found)
        assert {type(event.message) for event in journey.found} == {
            Update if way == "up" else type(task(journey.body))
        }


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("sessions", [True, False])
def test_on_a_good_link_every_chunk_is_sent_once(tmp_path: Path, way: Way, sessions: bool) -> None:
    broker = UnrulyBroker(sessions=sessions)
    journey = Journey(World(tmp_path, broker, CHUNKED), way, some_body(5_000))
    journey.send()
    journey.step()
    assert [event.body for event in journey.found] == [journey.body]
    assert broker.sent == list(range(50))


def come_to(journey: Journey, written: int) -> None:
    """Let so many chunks come, and then nothing more."""
    name = journey.names[1]
    for _ in range(10_000):
        pulls = journey.channel(name)._pulls._open
        if pulls and all(49 - len(pull.partial.missing) >= written - 1 for pull in pulls.values()):
            return
        for end in ("", "pi"):
            channel = journey.channel(end)
            event = channel._transport.receive(0.0)
            if event is not None:
                channel._handle(event)
            while channel._events:
                found = channel._events.popleft()
                if isinstance(found, Announced):
                    channel.accept(found)
    raise AssertionError("it does not come")


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("written", [1, 2, 7, 25, 49])
def test_a_receiver_that_is_killed_after_any_chunk_asks_for_the_others_only(
    tmp_path: Path, way: Way, written: int
) -> None:
    broker = UnrulyBroker()
    journey = Journey(World(tmp_path, broker, CHUNKED), way, some_body(5_000))
    journey.send()
    come_to(journey, written)
    world, receiver = journey.world, journey.names[1]
    world.kill(receiver)
    del broker._sessions[world.transports[receiver].client_id]
    drain(journey.channel(journey.names[0]))  # it sends what it was asked for, to nobody
    sent_before = len(broker.sent)
    world.open(receiver)
    journey.step()
    journey.send()
    journey.step()
    assert [event.body for event in journey.found] == [journey.body]
    assert sorted(broker.sent[sent_before:]) == list(range(50))[-(50 - written) :]


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_sender_that_is_killed_sends_the_rest_when_it_is_back(tmp_path: Path, way: Way) -> None:
    broker = UnrulyBroker()
    journey = Journey(World(tmp_path, broker, CHUNKED), way, some_body(5_000))
    journey.send()
    come_to(journey, 20)
    world, sender = journey.world, journey.names[0]
    world.kill(sender)
    world.open(sender)
    journey.step()
    assert journey.found == []
    world.now_s += 6.0
    journey.step()
    journey.send()
    journey.step()
    assert [event.body for event in journey.found] == [journey.body]
    assert max(Counter(broker.sent).values()) <= 2
    assert len(broker.sent) <= 54  # what was in flight, at most, is sent again


@pytest.mark.parametrize("way", ["up", "down"])
def test_lost_chunks_are_asked_for_and_sent_again(tmp_path: Path, way: Way) -> None:
    broker = UnrulyBroker()
    journey = Journey(World(tmp_path, broker, CHUNKED), way, some_body(5_000))
    branch = "up" if way == "up" else "down"
    digest = journey.body.digest
    lost = [f"fl/v1/home/{branch}/pi/chunk/{digest}/{index}" for index in (0, 7, 49)]
    broker.lose.update(lost)
    journey.send()
    journey.step()
    assert journey.found == []
    journey.world.now_s += Limits().stall_s - 1.0
    journey.step()
    assert journey.found == []
    for _ in range(3):
        journey.world.now_s += Limits().stall_s
        journey.step()
    assert [event.body for event in journey.found] == [journey.body]
    assert Counter(broker.sent) == Counter(range(50)) + Counter([0, 7, 49])


def test_a_transfer_goes_on_at_once_after_a_reconnect_without_a_session(tmp_path: Path) -> None:
    broker = UnrulyBroker(sessions=False)
    journey = Journey(World(tmp_path, broker, CHUNKED), "down", some_body(5_000))
    digest = journey.body.digest
    broker.lose.update(f"fl/v1/home/down/pi/chunk/{digest}/{index}" for index in (0, 7, 20))
    journey.send()
    journey.step()
    assert journey.found == []
    broker.cut(journey.world.transports["pi"])
    journey.step()  # without waiting: the clock stood still
    assert [event.body for event in journey.found] == [journey.body]


# Heads


def test_the_second_of_two_heads_ends_the_first(tmp_path: Path) -> None:
    world = World(tmp_path, MemoryBroker(), CHUNKED)
    device = world.open("pi")
    drain(device, world.gateway)
    one, two = some_body(2_000), some_body(1_000, 2)
    device.send(None, update(one), one)
    device.send(None, update(two), two)
    found = [event for event in drain(device, world.gateway) if isinstance(event, Delivered)]
    assert [(event.message, event.body) for event in found] == [(update(two), two)]
    assert world.spool("gateway") == []


def test_what_is_delivered_is_the_latest_of_the_heads(tmp_path: Path) -> None:
    journey = Journey(World(tmp_path, UnrulyBroker(), CHUNKED), "down", some_body(5_000))
    gateway = journey.channel("")
    journey.send()
    come_to(journey, 20)
    gateway.send("pi", task(journey.body, seconds_left=0.5), journey.body)
    journey.step()
    [event] = journey.found
    assert event.message == task(journey.body, seconds_left=0.5)
    broker = journey.world.broker
    assert isinstance(broker, UnrulyBroker)
    assert broker.sent == list(range(50))


def test_a_head_that_is_not_accepted_costs_nothing_and_may_be_accepted_later(
    tmp_path: Path,
) -> None:
    broker = UnrulyBroker()
    journey = Journey(World(tmp_path, broker, CHUNKED), "down", some_body(5_000))
    journey.send()
    device = journey.channel("pi")
    [head] = drain(device, journey.channel(""), accept=False)
    for _ in range(10):
        journey.world.now_s += 10.0
        assert drain(device, journey.channel("")) == []
    assert broker.sent == []
    assert journey.world.spool("pi") == []
    assert isinstance(head, Announced)
    device.accept(head)
    journey.step()
    assert [event.body for event in journey.found] == [journey.body]


# The disk


def test_a_disk_that_is_full_for_a_while_is_reported_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, UnrulyBroker(), CHUNKED)
    device = world.open("pi")
    drain(device, world.gateway)
    body = some_body(5_000)
    device.send(None, update(body), body)
    real, left = os.pwrite, 30

    def full(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        rejected = [one for one in drain(device, world.gateway) if isinstance(one, Rejected)]
    assert rejected
    assert all("No space left" in one.reason and one.device == "pi" for one in rejected)
    assert world.gateway.rejected == {"pi": len(rejected)}
    device.send(None, FAILURE)
    assert [e.message for e in drain(device, world.gateway) if isinstance(e, Delivered)] == [
        FAILURE
    ]
    world.now_s += 6.0
    found = [event for event in drain(device, world.gateway) if isinstance(event, Delivered)]
    assert [(event.message, event.body) for event in found] == [(update(body), body)]


def test_a_head_for_which_there_is_no_room_is_rejected_and_the_next_one_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, MemoryBroker(), CHUNKED)
    device = world.open("pi")
    drain(device, world.gateway)
    body = some_body(5_000)
    device.send(None, update(body), body)
    real = os.statvfs(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:4], 0, *real[5:])))
        events = drain(device, world.gateway)
    assert isinstance(events[-1], Rejected)
    assert "free on the disk" in events[-1].reason
    device.send(None, update(body), body)
    found = [event for event in drain(device, world.gateway) if isinstance(event, Delivered)]
    assert [event.body for event in found] == [body]


def test_a_body_that_is_gone_from_the_senders_disk_ends_its_transfer_and_no_other(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, MemoryBroker(), CHUNKED)
    devices = [world.open(name) for name in ("pi", "nano")]
    drain(*devices, world.gateway)
    file, body = file_of(tmp_path / "body", 2_000), some_body(2_000, 2)
    world.gateway.send("pi", task(file), file)
    world.gateway.send("nano", task(body), body)
    file.path.unlink()
    found = [event for event in drain(*devices, world.gateway) if isinstance(event, Delivered)]
    assert [(event.device, event.body) for event in found] == [("nano", body)]


# How much is under way


@settings(max_examples=25, deadline=None)
@given(
    way=st.sampled_from(["up", "down"]), size=st.integers(501, 60_000), seed=st.integers(0, 999),
    loss=st.floats(0.0, 0.3),
)  # fmt: skip
def test_no_more_than_four_percent_or_four_chunks_are_in_flight_or_asked_for_by_a_device(
    way: Way, size: int, seed: int, loss: float
) -> None:
    most = max(4, size // 25 // 100)
    with tempfile.TemporaryDirectory() as folder:
        broker = UnrulyBroker(seed, loss=loss)
        journey = Journey(World(Path(folder), broker, CHUNKED), way, some_body(size, seed))
        journey.send()
        widest = 0
        sender, receiver = (journey.channel(name) for name in journey.names)
        for _ in range(50_000):
            for channel in (sender, receiver):
                event = channel._transport.receive(0.0)
                channel._tick()
                if event is not None:
                    channel._handle(event)
                assert len(sender._chunks) <= most
                for pull in receiver._pulls._open.values():
                    assert way == "up" or len(pull.asked) <= most
                    widest = max(widest, len(sender._chunks))
                while channel._events:
                    found = channel._events.popleft()
                    if isinstance(found, Announced):
                        channel.accept(found)
                    elif isinstance(found, Delivered):
                        assert digest_of(found.body) == journey.body.digest
                        assert widest >= min(most, 2)
                        return
            if not any(c._transport._events for c in (sender, receiver)):  # type: ignore[attr-defined]
                journey.world.now_s += 1.0
        raise AssertionError("it did not arrive")


def test_what_a_gateway_asks_all_devices_for_is_bounded_and_a_dead_one_is_passed_by(
    tmp_path: Path,
) -> None:
    options = replace(CHUNKED, in_flight_bytes=1_600)
    world = World(tmp_path, MemoryBroker(), options)
    names = [f"d{number}" for number in range(12)]
    devices = {name: world.open(name, CHUNKED) for name in names}
    drain(*devices.values(), world.gateway)
    bodies = {name: some_body(3_000, number) for number, name in enumerate(names)}
    for name, device in devices.items():
        device.send(None, update(bodies[name]), bodies[name])
    for name in ("d0", "d1", "d2", "d3"):
        world.kill(name)
        del devices[name]
    gateway, found = world.gateway, dict[str, Body]()
    for _ in range(60):
        for event in steps(gateway, *devices.values()):
            if isinstance(event, Delivered) and event.body.size:
                found[event.device] = event.body
            pulls = gateway._pulls._open
            asked = sum(
                pull.absent.length(index) for pull in pulls.values() for index in pull.asked
            )
            assert asked <= 1_600
        if len(found) == 8:
            break
        world.now_s += 1.0
    assert found == {name: bodies[name] for name in names[4:]}
    assert world.now_s <= 15.0


# The bodies that are kept for others


def outbox(now_s: list[float]) -> Outbox:
    return Outbox(300.0, lambda _: 4, lambda: now_s[0])


def cut_in_ten(body: Body) -> Absent:
    return Absent(digest=body.digest, size=body.size, chunk_bytes=body.size // 10)


def test_of_each_peer_the_latest_body_is_kept() -> None:
    box = outbox([0.0])
    for seed in range(5):
        body = some_body(100, seed)
        box.put("pi", body, cut_in_ten(body))
    assert list(box._held) == ["pi"]
    box.ask("pi", ask_for(some_body(100, 0).digest, [1]))
    assert box.done
    box.ask("pi", ask_for(body.digest, [1]))
    [due] = box.due_chunks(lambda _: True)
    assert (due.peer, due.transfer, due.index) == ("pi", body.digest, 1)


def test_a_body_that_is_put_again_goes_on_where_it_was() -> None:
    box, body = outbox([0.0]), some_body(100)
    box.put("pi", body, cut_in_ten(body))
    box.ask("pi", ask_for(body.digest, range(10)))
    first = [due.index for due in box.due_chunks(lambda _: True)]
    box.put("pi", Bytes(body.read()), cut_in_ten(body))
    box.ask("pi", ask_for(body.digest, [0, 1]))
    assert first == [0, 1, 2, 3]
    assert list(box.due_chunks(lambda _: True)) == []
    for index in first:
        box.acknowledged("pi", body.digest, index)
    assert [due.index for due in box.due_chunks(lambda _: True)] == [4, 5, 6, 7]
    for index in (4, 5, 6, 7):
        box.acknowledged("pi", body.digest, index)
    assert [due.index for due in box.due_chunks(lambda _: True)] == [8, 9]


def test_what_was_put_back_comes_next() -> None:
    box, body = outbox([0.0]), some_body(100)
    box.put("pi", body, cut_in_ten(body))
    box.ask("pi", ask_for(body.digest, [3, 5]))
    box.put_back(next(box.due_chunks(lambda _: True)))
    assert [due.index for due in box.due_chunks(lambda _: True)] == [3, 5]
    assert not box.done
    assert not box.acknowledged("pi", body.digest, 3)
    assert not box.acknowledged("pi", body.digest, 5)
    assert box.done


def test_a_body_is_through_when_the_broker_has_had_all_of_it_however_it_was_asked_for() -> None:
    box, body = outbox([0.0]), some_body(100)
    box.put("pi", body, cut_in_ten(body))
    for batch in ([0, 1, 2], [2, 3, 4, 5], [6, 7, 8, 9]):
        box.ask("pi", ask_for(body.digest, batch))
        sent = [due.index for due in box.due_chunks(lambda _: True)]
        through = [box.acknowledged("pi", body.digest, index) for index in sent]
    assert through == [False, False, False, True]


def test_nobody_can_ask_for_the_body_of_another() -> None:
    box, body = outbox([0.0]), some_body(100)
    box.put("pi", body, cut_in_ten(body))
    box.ask("nano", ask_for(body.digest, [0]))
    assert list(box.due_chunks(lambda _: True)) == []


def test_a_chunk_that_is_asked_for_a_thousand_times_is_sent_once() -> None:
    box, body = outbox([0.0]), some_body(100)
    box.put("pi", body, cut_in_ten(body))
    for _ in range(1_000):
        box.ask("pi", Need(what="chunks", transfer=body.digest, missing=b"\xff\x03"))
    assert len(box._held["pi"].asked) == 10


def test_a_body_is_forgotten_five_minutes_after_it_was_last_asked_for() -> None:
    now_s = [0.0]
    box, body = outbox(now_s), some_body(100)
    box.put("pi", body, cut_in_ten(body))
    now_s[0] = 200.0
    box.ask("pi", ask_for(body.digest, [0]))
    [due] = box.due_chunks(lambda _: True)
    now_s[0] = 600.0
    box.expire()
    assert list(box._held) == ["pi"]  # a chunk is with the broker
    box.acknowledged("pi", body.digest, due.index)
    box.expire()
    assert list(box._held) == []


# Memory


class Pipe:
    """Two transports on one line, which holds what was sent until it is received."""

    def __init__(self) -> None:
        self.ends = [_End(self), _End(self)]

    def other(self, end: _End) -> _End:
        return self.ends[1 - self.ends.index(end)]


class _End:
    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._filters: list[str] = []
        self.events: deque[Event] = deque([Connected(resumed=True)])
        self.line: deque[tuple[int, Received]] = deque()
        self._handles = iter(range(10**9))

    def start(self) -> None: ...
    def close(self) -> None: ...

    def subscribe(self, topic_filter: str) -> None:
        self._filters.append(topic_filter)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        handle = next(self._handles)
        received = Received(topic=topic, payload=payload, retained=False)
        self._pipe.other(self).line.append((handle, received))
        return handle

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        if self.events:
            return self.events.popleft()
        if not self.line:
            return None
        handle, received = self.line.popleft()
        self._pipe.other(self).events.append(Published(handle=handle))
        known = any(topic_matches(one, received.topic) for one in self._filters)
        return received if known else None


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_body_of_45_megabytes_costs_both_ends_less_than_four(tmp_path: Path, way: Way) -> None:
    file = file_of(tmp_path / "body", 45_000_000)
    line = Pipe()
    gateway, device = (
        Channel(end, TOPICS, device=name, spool=tmp_path / f"spool{name}", clock=lambda: 0.0)
        for end, name in zip(line.ends, ("", "pi"), strict=True)
    )
    sender, receiver = (device, gateway) if way == "up" else (gateway, device)
    for channel in (gateway, device):
        channel.start()
    tracemalloc.start()
    try:
        sender.send(*((None, update(file)) if way == "up" else ("pi", task(file))), file)
        arrived = arrival(sender, receiver)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(arrived, File)
    assert arrived.digest == file.digest
    assert arrived.verify()
    assert peak_bytes < 4_000_000  # both together, and what is on the line


def arrival(sender: Channel, receiver: Channel) -> Body:
    for _ in range(1_000_000):
        sender.poll(0.0)
        event: ChannelEvent | None = receiver.poll(0.0)
        if isinstance(event, Announced):
            receiver.accept(event)
        elif isinstance(event, Delivered):
            return event.body
    raise AssertionError("it did not arrive")


def test_small_messages_are_not_kept_waiting_by_a_body(tmp_path: Path) -> None:
    world = World(tmp_path, MemoryBroker(), SMALL)
    device = world.open("pi")
    drain(device, world.gateway)
    body = some_body(5_000)
    world.gateway.send("pi", task(body), body)
    world.gateway.send("pi", RECEIPT)
    found = [event for event in drain(device, world.gateway) if isinstance(event, Delivered)]
    assert [event.message for event in found] == [RECEIPT, task(body)]
