"""MQTT 3.1.1 packets, as far as a client needs them that only loads a broker.

paho has a thread a client: a thousand of those would measure themselves. Source: MQTT 3.1.1,
sections 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

QOS: Final = 1
WILL_RETAINED: Final = 0x04 | QOS << 3 | 0x20
RETAIN: Final = 0x01
KEEPALIVE_S: Final = 3600  # nobody is away for so long here


class Kind(IntEnum):
    """The upper half of a packet's first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    DISCONNECT = 14


@dataclass(frozen=True, slots=True)
class Packet:
    """One that came.

    Attributes:
        kind: what it is; a number that a client never gets is refused.
        flags: the lower half of its first byte.
        body: the rest, without the length.
    """

    kind: Kind
    flags: int
    body: bytes


def connect(client_id: str, will_topic: str, will: bytes) -> bytes:
    """A CONNECT with a session that is kept and a retained will, as devices send it."""
    start = struct.pack(">H4sBBH", 4, b"MQTT", 4, WILL_RETAINED, KEEPALIVE_S)
    fields = (client_id.encode(), will_topic.encode(), will)
    return _packet(Kind.CONNECT, 0, start + b"".join(map(_sized, fields)))


def subscribe(packet_id: int, *filters: str) -> bytes:
    """A SUBSCRIBE to all of the filters."""
    asked = b"".join(_sized(one.encode()) + bytes([QOS]) for one in filters)
    return _packet(Kind.SUBSCRIBE, 2, struct.pack(">H", packet_id) + asked)


def publish(packet_id: int, topic: str, payload: bytes, *, retain: bool = False) -> bytes:
    """A PUBLISH with QoS 1."""
    flags = QOS << 1 | (RETAIN if retain else 0)
    return _packet(
        Kind.PUBLISH, flags, _sized(topic.encode()) + struct.pack(">H", packet_id) + payload
    )


def puback(packet_id: int) -> bytes:
    """What acknowledges a PUBLISH."""
    return struct.pack(">BBH", Kind.PUBACK << 4, 2, packet_id)


def disconnect() -> bytes:
    """A goodbye: the will is not published."""
    return bytes([Kind.DISCONNECT << 4, 0])


def read_publish(packet: Packet) -> tuple[str, int | None, memoryview]:
    """Topic, packet id (None with QoS 0) and payload of a PUBLISH."""
    view = memoryview(packet.body)
    end = 2 + int.from_bytes(view[:2], "big")
    topic = bytes(view[2:end]).decode()
    if not packet.flags >> 1 & 3:
        return topic, None, view[end:]
    return topic, int.from_bytes(view[end : end + 2], "big"), view[end + 2 :]


class PacketReader:
    """Bytes as they come to whole packets."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that are whole now."""
        self._waiting += data
        while (found := self._next()) is not None:
            yield found

    def _next(self) -> Packet | None:
        size, shift, at = 0, 0, 1
        while True:
            if at >= len(self._waiting):
                return None
            byte = self._waiting[at]
            size |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if not byte & 128:
                break
        if len(self._waiting) < at + size:
            return None
        first = self._waiting[0]
        packet = Packet(Kind(first >> 4), first & 15, bytes(self._waiting[at : at + size]))
        del self._waiting[: at + size]
        return packet


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _packet(kind: Kind, flags: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([kind << 4 | flags]) + bytes(length) + body
