"""A device of a load test: it keeps the contract, and computes nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fedsparse.wire.headers import decode_message, encode_message
from fedsparse.wire.messages import Offer, Part, Ready, Receipt, Stage, Status, Task, Update
from fedsparse.wire.topics import Branch, Topics
from tools.bench.transport import packets
from tools.bench.transport.connection import Connection
from tools.bench.transport.load_job import CODEC, LEVEL, SITE, LoadClient
from tools.bench.transport.packets import Kind, Packet

TOPICS: Final = Topics(SITE)
RECEIPT: Final = Receipt.KIND
KIND_AT: Final = 3  # of a frame: its kind


@dataclass(slots=True, kw_only=True)
class Work:
    """An update that waits until it may go out, or for its receipt.

    Attributes:
        round_id, stage: of the task.
        digest: of the body, as the receipt names it.
        frame: the whole message.
        receipts: payloads and times (monotonic) of what came for it.
    """

    round_id: int
    stage: Stage
    digest: bytes
    frame: bytes
    receipts: list[tuple[bytes, float]] = field(default_factory=list)


class SwarmClient:
    """One device.

    Args:
        client: which one.
        connection: its own; it has not said anything yet.
        on_online, on_held, on_receipt: are told when it is there, when it holds an update, and
            when the first receipt of that has come.
    """

    def __init__(
        self,
        client: LoadClient,
        connection: Connection,
        *,
        on_online: Callable[[], None],
        on_held: Callable[[SwarmClient], None],
        on_receipt: Callable[[], None],
    ) -> None:
        self.client = client
        self.connection = connection
        self.work: Work | None = None
        self.values = b""  # of the latest task
        self._held: tuple[str, ...] = ()
        self._offer: Offer | None = None
        self._packet_id = 0
        self._on_online, self._on_held, self._on_receipt = on_online, on_held, on_receipt
        will = encode_message(Status(device=client.name, online=False))
        connection.send(packets.connect(client.name, TOPICS.status(client.name), will))

    def take(self, packet: Packet) -> None:
        """A packet came."""
        if packet.kind is Kind.CONNACK:
            if packet.body[1]:
                raise ConnectionRefusedError(f"the broker says {packet.body[1]} to a client")
            filters = TOPICS.device_filters(self.client.name)
            self.connection.send(packets.subscribe(self._next_id(), *filters))
        elif packet.kind is Kind.SUBACK:
            status = encode_message(Status(device=self.client.name, online=True))
            self._publish(TOPICS.status(self.client.name), status, retain=True)
            self._on_online()
        elif packet.kind is Kind.PUBLISH:
            self._take_payload(*packets.read_publish(packet))

    def send_update(self) -> None:
        """Send the update that is held."""
        if self.work is not None:
            self._publish_up(self.work.frame)

    def say_goodbye(self) -> None:
        """Leave; the broker does not publish the will."""
        self.connection.send(packets.disconnect())

    def _take_payload(self, topic: str, packet_id: int | None, payload: memoryview) -> None:
        if payload and payload[KIND_AT] == RECEIPT:
            self._take_receipt(bytes(payload))
        elif payload:
            message, body = decode_message(payload)
            if isinstance(message, Offer):
                self._answer(message)
            elif isinstance(message, Task):
                self._prepare(message, body)
        if packet_id is not None:
            self.connection.send(packets.puback(packet_id))

    def _take_receipt(self, payload: bytes) -> None:
        """Keep it: it is decoded when all have come. One of an earlier round is ignored."""
        if self.work is not None and self.work.digest in payload:
            self.work.receipts.append((payload, time.monotonic()))
            if len(self.work.receipts) == 1:
                self._on_receipt()

    def _answer(self, offer: Offer) -> None:
        if offer == self._offer or offer.stage is Stage.DONE:
            return
        self._offer = offer
        ready = Ready(
            job=offer.job,
            round_id=offer.round_id,
            attempt=offer.attempt,
            level=LEVEL,
            held=self._held,
            num_examples=self.client.num_examples,
            engine="none",
        )
        self._publish_up(encode_message(ready))

    def _prepare(self, task: Task, body: memoryview) -> None:
        """Make the update of a task; one that came before is ignored."""
        if self.work is not None and self.work.round_id >= task.round_id:
            return
        self._held = (task.mask_digest,)
        self.values = bytes(body[len(body) - task.parts[-1].size :])
        data, parts = b"", tuple[Part, ...]()
        if task.stage is Stage.TRAIN:
            data = self.client.values(task.round_id, len(self.values) // 4).tobytes()
            parts = (Part(name="values", codec=CODEC, size=len(data)),)
        update = Update(
            job=task.job,
            run=task.run,
            round_id=task.round_id,
            stage=task.stage,
            level=task.level,
            num_examples=self.client.num_examples,
            mask_digest=task.mask_digest,
            parts=parts,
        )
        self.work = Work(
            round_id=task.round_id,
            stage=task.stage,
            digest=hashlib.sha256(data).digest(),
            frame=encode_message(update, data),
        )
        self._on_held(self)

    def _publish_up(self, frame: bytes) -> None:
        self._publish(TOPICS.message(Branch.UP, self.client.name), frame)

    def _publish(self, topic: str, frame: bytes, *, retain: bool = False) -> None:
        self.connection.send(packets.publish(self._next_id(), topic, frame, retain=retain))

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65535 + 1
        return self._packet_id
