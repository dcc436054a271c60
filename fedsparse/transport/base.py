"""What a connection to a broker offers; paho and the in-memory broker stand behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from fedsparse.errors import LocalProtocolError

PROPERTIES_BYTES: Final = 1  # of a packet of MQTT 5 that has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes when the connection breaks off without a goodbye."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The broker has accepted us.

    Attributes:
        resumed: whether it had kept our session.
        packet_bytes: the largest packet that may be published on this connection: the smaller one
            of what the broker says and what is configured; None where neither says anything.
    """

    resumed: bool
    packet_bytes: int | None = None


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
    """The broker has done with what `publish` returned `handle` for; that is no receipt of a peer.

    Attributes:
        handle: of the payload.
        refused: why it did not take it, and never will; empty where it has taken it.
    """

    handle: int
    refused: str = ""


Event = Connected | Disconnected | Received | Published


class Transport(Protocol):
    """One connection, used from one thread; its events are fetched with `receive`.

    QoS is 1 throughout: what was published while disconnected is sent when the connection is back.
    """

    def start(self) -> None:
        """Connect, and stay connected until `close`.

        Raises:
            TransportError: the broker cannot be reached now, or refuses us.
            ConfigError: a file that [broker] names is at fault.
        """
        ...

    def subscribe(self, topic_filter: str) -> None:
        """Receive what matches `topic_filter`, on this connection and every later one."""
        ...

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Hand over a payload; returns the handle that its `Published` will carry.

        Raises:
            TransportError: too many payloads wait for the broker already.
            LocalProtocolError: the packet is larger than `Connected.packet_bytes`.
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


def check_packet_bytes(topic: str, payload_bytes: int, limit_bytes: int | None) -> None:
    """Refuse what a broker would cut the connection over, again and again.

    Raises:
        LocalProtocolError: the packet would be larger than `limit_bytes`.
    """
    size = publish_packet_bytes(topic, payload_bytes + PROPERTIES_BYTES)
    if limit_bytes is not None and size > limit_bytes:
        raise LocalProtocolError(
            f"a packet of {size} bytes on {topic}: the broker takes {limit_bytes} at most; raise "
            "its `max_packet_size` (and `max_packet_bytes` in [broker], if it is set)"
        )


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
