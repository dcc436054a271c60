"""What the fake does beyond the contract: the awkwardness that tests ask it for."""

from __future__ import annotations

import pytest

from fedsparse.errors import TransportError
from fedsparse.transport.base import Connected, Disconnected, Event, Published, Received
from fedsparse.transport.memory import MemoryBroker, MemoryTransport


def client(broker: MemoryBroker, name: str, *filters: str) -> MemoryTransport:
    transport = MemoryTransport(broker, client_id=name)
    for topic_filter in filters:
        transport.subscribe(topic_filter)
    transport.start()
    return transport


def events(transport: MemoryTransport) -> list[Event]:
    return list(iter(lambda: transport.receive(0.0), None))


def test_duplicates_come_twice() -> None:
    broker = MemoryBroker(duplicates=True)
    reader, writer = client(broker, "reader", "t"), client(broker, "writer")
    writer.publish("t", b"x")
    assert [type(event) for event in events(reader)] == [Connected, Received, Received]


def test_a_lost_payload_is_acknowledged_and_gone() -> None:
    broker = MemoryBroker()
    reader, writer = client(broker, "reader", "t"), client(broker, "writer")
    broker.lose.add("t")
    handles = [writer.publish("t", payload) for payload in (b"lost", b"kept")]
    assert [e.handle for e in events(writer) if isinstance(e, Published)] == handles
    assert [e.payload for e in events(reader) if isinstance(e, Received)] == [b"kept"]


def test_a_second_client_of_one_name_evicts_the_first() -> None:
    broker = MemoryBroker()
    first = client(broker, "same")
    second = client(broker, "same")
    assert isinstance(first._events[-1], Disconnected)
    assert isinstance(events(second)[0], Connected)


def test_a_stopped_broker_lets_nobody_in() -> None:
    broker = MemoryBroker()
    broker.stop()
    with pytest.raises(TransportError, match="stopped"):
        client(broker, "a")


def test_what_was_not_dealt_with_before_a_cut_comes_again() -> None:
    broker = MemoryBroker()
    reader, writer = client(broker, "reader", "t"), client(broker, "writer")
    for payload in (b"1", b"2", b"3"):
        writer.publish("t", payload)
    assert isinstance(reader.receive(0.0), Connected)
    first, second = reader.receive(0.0), reader.receive(0.0)  # the second asked for: the first done
    assert isinstance(first, Received)
    assert isinstance(second, Received)
    broker.cut(reader)
    came = events(reader)
    again = came[came.index(next(one for one in came if isinstance(one, Connected))) :]
    assert [one.payload for one in again if isinstance(one, Received)] == [b"2", b"3"]


def test_what_was_dealt_with_before_a_cut_does_not() -> None:
    broker = MemoryBroker()
    reader, writer = client(broker, "reader", "t"), client(broker, "writer")
    writer.publish("t", b"1")
    assert len(events(reader)) == 2
    broker.cut(reader)
    assert [type(event) for event in events(reader)] == [Disconnected, Connected]
