"""What a connection to a broker offers; paho and the in-memory broker stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes when the connection breaks off without a goodbye."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The broker has accepted us; `resumed` tells whether it had kept our session."""

    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The connection is gone; the transport keeps trying to restore it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A payload has come; with QoS 1 it may come again."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The broker has taken what `publish` returned `handle` for; that is no receipt of a peer."""

    handle: int


Event = Connected | Disconnected | Received | Published


class Transport(Protocol):
    """One connection, used from one thread; its events are fetched with `receive`.

    QoS is 1 throughout: what was published while disconnected is sent when the connection is back.
    """

    def start(self) -> None:
        """Connect, and stay connected until `close`.

        Raises:
            TransportError: the broker cannot be reached now, or refuses us.
        """
        ...

    def subscribe(self, topic_filter: str) -> None:
        """Receive what matches `topic_filter`, on this connection and every later one."""
        ...

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Hand over a payload; returns the handle that its `Published` will carry.

        Raises:
            TransportError: too many payloads wait for the broker already.
        """
        ...

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        """The next event, or None when none came in time.

        A payload is acknowledged when the next event is asked for: what was to be done with it, on
        the disk too, is then done. One whose consumer dies before is delivered again.

        Args:
            timeout_s: how long to wait.
            hold: what was handed out before is still being worked on, and not acknowledged yet;
                all of it is with the next call that does not hold. A broker hands out only so many
                before: do not wait long.
        """
        ...

    def close(self) -> None:
        """Say goodbye (the will is then not published) and end the connection."""
        ...


def publish_packet_bytes(topic: str, payload_bytes: int) -> int:
    """Size of a whole MQTT 3.1.1 PUBLISH packet with QoS 1, in bytes.

    Source: MQTT 3.1.1, section 3.3: fixed header, topic, packet identifier, payload.
    """
    remaining = 2 + len(topic.encode()) + 2 + payload_bytes
    length_bytes = 1
    while remaining >= 128**length_bytes:
        length_bytes += 1
    return 1 + length_bytes + remaining


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT filter (with `+` and `#`) covers a topic."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index == len(given) or level not in ("+", given[index]):
            return False
    return len(wanted) == len(given)
