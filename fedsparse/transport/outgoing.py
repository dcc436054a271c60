"""What was published, until the broker has done with it: connections come and go meanwhile."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from fedsparse.errors import LocalProtocolError, TransportError
from fedsparse.transport.base import Published, check_packet_bytes
from fedsparse.transport.connection import Connection

PAYLOADS_QUEUED: Final = 2_048


@dataclass(slots=True)
class _Payload:
    topic: str
    payload: bytes
    retain: bool
    connection: Connection | None = None  # on which it was sent last
    packet_id: int = 0

    @property
    def taken(self) -> bool:
        return self.connection is not None and self.packet_id in self.connection.taken


class Outgoing:
    """Payloads in their order, by handle; its owner lets one thread at a time use it."""

    def __init__(self) -> None:
        self._handles = itertools.count(1)
        self._payloads: dict[int, _Payload] = {}
        self._sent: dict[tuple[Connection, int], int] = {}  # connection, packet id -> handle

    def __len__(self) -> int:
        return len(self._payloads)

    def put(self, topic: str, payload: bytes, *, retain: bool) -> int:
        """Keep a payload that is to be sent; returns its handle.

        Raises:
            TransportError: too many wait already.
        """
        if len(self._payloads) >= PAYLOADS_QUEUED:
            raise TransportError(
                f"{PAYLOADS_QUEUED} payloads wait for the broker: it is slower than what it is "
                "given, or away"
            )
        handle = next(self._handles)
        self._payloads[handle] = _Payload(topic, payload, retain)
        return handle

    def send(self, handle: int, connection: Connection) -> None:
        """Send a payload on a connection that is open."""
        one = self._payloads[handle]
        one.packet_id = connection.publish(one.topic, one.payload, retain=one.retain)
        one.connection = connection
        self._sent[connection, one.packet_id] = handle

    def send_again(self, connection: Connection, limit_bytes: int | None) -> list[Published]:
        """Send all that the broker has not taken; returns what it never will take, and is dropped.

        What it took on an earlier connection is known there, though nobody has asked for it yet.
        """
        self._sent = {key: one for key, one in self._sent.items() if self._payloads[one].taken}
        refused = []
        for handle, one in list(self._payloads.items()):
            if one.taken:
                continue
            try:
                check_packet_bytes(one.topic, len(one.payload), limit_bytes)
            except LocalProtocolError as error:
                del self._payloads[handle]
                refused.append(Published(handle=handle, refused=str(error)))
            else:
                self.send(handle, connection)
        return refused

    def done(self, connection: Connection, packet_id: int, refused: str) -> Published | None:
        """The broker has done with a packet; None where its payload was sent again since."""
        connection.taken.discard(packet_id)  # the number may be used again
        handle = self._sent.pop((connection, packet_id), None)
        if handle is None or self._payloads.pop(handle, None) is None:
            return None
        return Published(handle=handle, refused=refused)
