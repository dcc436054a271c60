"""A broker in memory, as awkward as the real thing, for tests and the simulator (one thread)."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

from fedsparse.errors import TransportError
from fedsparse.transport.base import (
    Connected,
    Disconnected,
    Event,
    Published,
    Received,
    Will,
    check_packet_bytes,
    topic_matches,
)


@dataclass(slots=True)
class _Session:
    """What the broker knows about a client id."""

    filters: list[str] = field(default_factory=list)
    waiting: list[Received] = field(default_factory=list)
    client: MemoryTransport | None = None


class MemoryBroker:
    """Routes payloads between `MemoryTransport`s.

    Args:
        duplicates: deliver everything twice, as QoS 1 may.
        sessions: whether a client without `clean_session` is remembered when it disconnects.
        packet_bytes: the largest packet that it takes, and says so; None for any.
        lose: chosen payloads are acknowledged and then lost, as a broker with a full queue does.
    """

    def __init__(
        self,
        *,
        duplicates: bool = False,
        sessions: bool = True,
        packet_bytes: int | None = None,
    ) -> None:
        self.running = True
        self.packet_bytes = packet_bytes
        self.duplicates = duplicates
        self.lose: set[str] = set()
        self._sessions_kept = sessions
        self._retained: dict[str, bytes] = {}
        self._sessions: dict[str, _Session] = {}

    def attach(self, client: MemoryTransport) -> bool:
        """Let `client` in, evicting another of its name; whether its session was resumed."""
        if not self.running:
            raise TransportError("the memory broker is stopped")
        session = self._sessions.setdefault(client.client_id, _Session())
        resumed = bool(session.filters)
        if session.client is not None and session.client is not client:
            self.cut(session.client, "another client of this name connected")
            session = self._sessions.setdefault(client.client_id, _Session())
        session.client = client
        return resumed

    def replay(self, client: MemoryTransport) -> None:
        """Deliver what came for `client` while it was away."""
        session = self._sessions[client.client_id]
        waiting, session.waiting = session.waiting, []
        for received in waiting:
            client.deliver(received)

    def subscribe(self, client: MemoryTransport, topic_filter: str) -> None:
        """Add a filter to the session, and deliver what is retained for it."""
        session = self._sessions[client.client_id]
        if topic_filter not in session.filters:
            session.filters.append(topic_filter)
        for topic, payload in self._retained.items():
            if topic_matches(topic_filter, topic):
                client.deliver(Received(topic=topic, payload=payload, retained=True))

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Deliver a payload to everyone who subscribed to it."""
        if retain and payload:
            self._retained[topic] = payload
        elif retain:
            self._retained.pop(topic, None)
        if topic in self.lose:
            self.lose.discard(topic)
            return
        received = Received(topic=topic, payload=payload, retained=False)
        for session in list(self._sessions.values()):
            if any(topic_matches(wanted, topic) for wanted in session.filters):
                for _ in range(2 if self.duplicates else 1):
                    if session.client is not None:
                        session.client.deliver(received)
                    else:
                        session.waiting.append(received)

    def detach(self, client: MemoryTransport) -> None:
        """`client` said goodbye."""
        session = self._sessions.get(client.client_id)
        if session is not None and session.client is client:
            session.client = None
            session.waiting[:0] = client.unacknowledged
            if client.clean_session or not self._sessions_kept:
                del self._sessions[client.client_id]

    def cut(self, client: MemoryTransport, reason: str = "the connection was cut") -> None:
        """Break a connection off: the will is published."""
        self.detach(client)
        client.broken_off(reason)
        if client.will is not None:
            self.route(client.will.topic, client.will.payload, retain=client.will.retain)

    def stop(self) -> None:
        """End all connections; sessions and retained payloads survive."""
        self.running = False
        for session in list(self._sessions.values()):
            if session.client is not None:
                self.cut(session.client, "the broker stopped")

    def restart(self) -> None:
        """Accept connections again; clients come back with their next `receive`."""
        self.running = True


class MemoryTransport:
    """A connection to a `MemoryBroker`; reconnects when it is next asked for an event."""

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        client_id: str,
        will: Will | None = None,
        clean_session: bool = False,
    ) -> None:
        self.client_id = client_id
        self.will = will
        self.clean_session = clean_session
        self._broker = broker
        self._filters: list[str] = []
        self._events: deque[Event] = deque()
        self._handed_out: list[Received] = []
        self._unsent: deque[tuple[int, str, bytes, bool]] = deque()
        self._handles = itertools.count(1)
        self._connected = False
        self._closed = True

    def start(self) -> None:
        """Connect; raises `TransportError` where the broker is stopped."""
        self._closed = False
        self._connect()

    def subscribe(self, topic_filter: str) -> None:
        """Receive what matches `topic_filter`, on this connection and every later one."""
        if topic_filter not in self._filters:
            self._filters.append(topic_filter)
            if self._connected:
                self._broker.subscribe(self, topic_filter)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Hand over a payload; returns the handle that its `Published` will carry.

        Raises:
            LocalProtocolError: the packet is larger than the broker takes.
        """
        check_packet_bytes(topic, len(payload), self._broker.packet_bytes)
        handle = next(self._handles)
        self._unsent.append((handle, topic, bytes(payload), retain))
        if self._connected:
            self._send()
        return handle

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        """The next event, or None at once: nothing can come while the only thread waits.

        The ones before are then acknowledged, unless held.
        """
        if not hold:
            self._handed_out.clear()
        if not self._events and not self._connected and not self._closed and self._broker.running:
            self._connect()
        event = self._events.popleft() if self._events else None
        if isinstance(event, Received):
            self._handed_out.append(event)
        return event

    @property
    def unacknowledged(self) -> list[Received]:
        """What a broker with a session delivers again: of this connection, and not retained."""
        came: list[Event] = list(self._handed_out)
        for event in self._events:
            came = [] if isinstance(event, Connected) else [*came, event]
        return [one for one in came if isinstance(one, Received) and not one.retained]

    def close(self) -> None:
        """Say goodbye; the will is not published."""
        self._handed_out.clear()
        self._broker.detach(self)
        self._connected = False
        self._closed = True

    def deliver(self, received: Received) -> None:
        """The broker has a payload for us."""
        self._events.append(received)

    def broken_off(self, reason: str) -> None:
        """The broker has cut the connection."""
        self._connected = False
        self._handed_out.clear()
        self._events.append(Disconnected(reason=reason))

    def _connect(self) -> None:
        resumed = self._broker.attach(self)
        self._connected = True
        self._events.append(Connected(resumed=resumed, packet_bytes=self._broker.packet_bytes))
        self._broker.replay(self)
        for topic_filter in self._filters:
            self._broker.subscribe(self, topic_filter)
        self._send()

    def _send(self) -> None:
        while self._unsent and self._connected:
            handle, topic, payload, retain = self._unsent.popleft()
            self._broker.route(topic, payload, retain=retain)
            self._events.append(Published(handle=handle))
