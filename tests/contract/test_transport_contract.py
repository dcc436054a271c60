"""What every transport does, against every broker."""

from __future__ import annotations

import random

import pytest
from harness import Harness, confirm, next_event, start, wait_for

from fedsparse.errors import LocalProtocolError
from fedsparse.transport.base import (
    Connected,
    Disconnected,
    Published,
    Received,
    Transport,
    Will,
    publish_packet_bytes,
)


def received(transport: Transport, count: int) -> list[Received]:
    """The next `count` payloads, without the repetitions that QoS 1 allows."""
    found: list[Received] = []
    while len(found) < count:
        payload = next_event(transport, Received)
        if payload not in found and not payload.topic.startswith("probe/"):
            found.append(payload)
    return found


def test_a_payload_arrives_and_is_acknowledged(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "a/+/c")
    start(writer)
    handle = writer.publish("a/b/c", b"\0payload\xff")
    assert received(reader, 1) == [
        Received(topic="a/b/c", payload=b"\0payload\xff", retained=False)
    ]
    await_handle(writer, handle)


def await_handle(transport: Transport, handle: int) -> None:
    while next_event(transport, Published).handle != handle:
        pass


def test_payloads_of_one_writer_arrive_in_order(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "n/#")
    start(writer)
    for number in range(100):
        writer.publish(f"n/{number % 3}", str(number).encode())
    assert [int(one.payload) for one in received(reader, 100)] == list(range(100))


def test_a_payload_of_one_mebibyte_arrives_unchanged(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "big")
    start(writer)
    payload = random.Random(1).randbytes(2**20)
    writer.publish("big", payload)
    assert received(reader, 1)[0].payload == payload


def test_a_retained_payload_waits_for_later_readers_until_it_is_cleared(harness: Harness) -> None:
    writer, early, late = (harness.client(name) for name in ("writer", "early", "late"))
    start(writer)
    writer.publish("kept", b"old", retain=True)
    writer.publish("kept", b"new", retain=True)
    confirm(writer)
    start_without_probe(early, "kept")
    assert received(early, 1) == [Received(topic="kept", payload=b"new", retained=True)]
    writer.publish("kept", b"", retain=True)
    assert received(early, 1) == [Received(topic="kept", payload=b"", retained=False)]
    start_without_probe(late, "kept", "live")
    confirm_by(writer, late)


def start_without_probe(transport: Transport, *filters: str) -> None:
    for topic_filter in filters:
        transport.subscribe(topic_filter)
    transport.start()
    next_event(transport, Connected)


def confirm_by(writer: Transport, reader: Transport) -> None:
    """`reader` gets nothing before a live payload."""

    def step() -> Received | None:
        writer.publish("live", b"now")
        event = reader.receive(0.2)
        return event if isinstance(event, Received) else None

    assert wait_for(step, "a live payload").payload == b"now"


def test_the_will_is_published_when_a_connection_breaks_off(harness: Harness) -> None:
    reader = harness.client("reader")
    mortal = harness.client("mortal", will=Will(topic="w/mortal", payload=b"gone"))
    start(reader, "w/#")
    start(mortal)
    harness.cut(mortal)
    assert received(reader, 1) == [Received(topic="w/mortal", payload=b"gone", retained=False)]
    late = harness.client("late")
    start_without_probe(late, "w/#")
    assert received(late, 1) == [Received(topic="w/mortal", payload=b"gone", retained=True)]


def test_no_will_is_published_after_a_goodbye(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    mortal = harness.client("mortal", will=Will(topic="w/mortal", payload=b"gone"))
    start(reader, "w/#")
    start(mortal)
    mortal.close()
    start(writer)
    writer.publish("w/other", b"alive")
    assert received(reader, 1)[0].topic == "w/other"


def test_a_cut_connection_comes_back_with_its_subscriptions(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "t")
    start(writer)
    harness.cut(reader)
    assert next_event(reader, Disconnected).reason
    resumed = next_event(reader, Connected).resumed
    assert resumed or not harness.keeps_sessions  # one that is slow to see the cut may resume, too
    confirm(reader)
    writer.publish("t", b"after")
    assert received(reader, 1)[0].payload == b"after"


def test_a_session_keeps_what_came_while_its_client_was_away(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "t")
    start(writer)
    reader.close()
    writer.publish("t", b"while away")
    confirm(writer)
    again = harness.client("reader")
    again.subscribe("t")
    again.start()
    if harness.keeps_sessions:
        assert next_event(again, Connected).resumed
        assert received(again, 1)[0].payload == b"while away"
    again.subscribe(f"probe/{id(again)}")
    confirm(again)
    writer.publish("t", b"live")
    assert received(again, 1)[0].payload == b"live"


def test_a_clean_session_keeps_nothing(harness: Harness) -> None:
    reader, writer = harness.client("reader", clean_session=True), harness.client("writer")
    start(reader, "t")
    start(writer)
    reader.close()
    writer.publish("t", b"while away")
    confirm(writer)
    again = harness.client("reader", clean_session=True)
    start(again, "t")
    writer.publish("t", b"live")
    assert received(again, 1)[0].payload == b"live"


def test_what_is_published_while_the_broker_is_down_is_sent_afterwards(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "t")
    start(writer)
    harness.stop()
    next_event(reader, Disconnected)
    next_event(writer, Disconnected)
    handle = writer.publish("t", b"patience", retain=True)
    harness.start()
    next_event(writer, Connected)
    await_handle(writer, handle)
    next_event(reader, Connected)
    assert received(reader, 1)[0].payload == b"patience"


def test_a_subscription_may_be_added_to_an_open_connection(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader)
    start(writer)
    reader.subscribe("later")
    confirm(reader)
    writer.publish("later", b"x")
    assert received(reader, 1)[0].topic == "later"


def test_a_payload_that_was_not_dealt_with_comes_again(harness: Harness) -> None:
    """Nor what waits behind it: only the next call acknowledges."""
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "t")
    start(writer)
    writer.publish("t", b"1")
    writer.publish("t", b"2")
    confirm(writer)
    assert received(reader, 1)[0].payload == b"1"
    harness.cut(reader)
    if harness.keeps_sessions:
        next_event(reader, Connected)
        assert [one.payload for one in received(reader, 2)] == [b"1", b"2"]


def test_the_limit_of_packets_is_told_and_kept(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "t")
    writer.start()
    limit_bytes = next_event(writer, Connected).packet_bytes
    assert limit_bytes == harness.packet_bytes
    if limit_bytes is not None:
        most = limit_bytes - (publish_packet_bytes("t", limit_bytes) - limit_bytes) - 1
        with pytest.raises(LocalProtocolError, match=f"the broker takes {limit_bytes} at most"):
            writer.publish("t", bytes(most + 1))
        writer.publish("t", bytes(most))
        assert len(received(reader, 1)[0].payload) == most
    writer.publish("t", b"small")
    assert received(reader, 1)[0].payload == b"small"


def test_many_payloads_at_once_end_no_connection(harness: Harness) -> None:
    """A broker of MQTT 5 says how many it takes, and cuts off who sends more."""
    writer = harness.client("writer")
    start(writer)
    left = {writer.publish("t", bytes(2000)) for _ in range(300)}
    while left:
        event = wait_for(lambda: writer.receive(0.2), "an acknowledgement")
        assert isinstance(event, Published)
        assert not event.refused
        left.discard(event.handle)


def test_what_is_held_is_delivered_again_when_the_connection_breaks(harness: Harness) -> None:
    """It was handed out to be stored together, and nobody has said yet that it is."""
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "t")
    start(writer)
    for number in range(4):
        writer.publish("t", str(number).encode())
    while received(reader, 1)[0].payload != b"0":
        pass
    held: set[bytes] = set()
    while held != {b"1", b"2", b"3"}:
        event = reader.receive(30.0, hold=bool(held))  # the first call acknowledges the one before
        held |= {event.payload} if isinstance(event, Received) and event.topic == "t" else set()
    harness.cut(reader)
    next_event(reader, Connected)
    again: set[bytes] = set()
    while harness.keeps_sessions and not held <= again:  # the one before may come once more, too
        again.add(next_event(reader, Received).payload)


def test_what_was_held_is_acknowledged_with_the_next_event_that_is_not(harness: Harness) -> None:
    reader, writer = harness.client("reader"), harness.client("writer")
    start(reader, "t")
    start(writer)
    for number in range(3):
        writer.publish("t", str(number).encode())
    held = 0
    while held < 3:
        event = reader.receive(30.0, hold=held > 0)
        held += isinstance(event, Received) and event.topic == "t"
    reader.receive(0.0)  # which acknowledges, before the broker is asked for another answer
    confirm(reader)
    harness.cut(reader)
    next_event(reader, Connected)
    writer.publish("t", b"live")
    assert received(reader, 1)[0].payload == b"live"
