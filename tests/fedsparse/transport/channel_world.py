"""A gateway and devices on one broker in memory and one clock, which the tests move."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedsparse.body import Body, Bytes, File
from fedsparse.transport.channel import (
    Announced,
    Channel,
    ChannelEvent,
    Delivered,
    status_will,
)
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.transport.options import ChannelOptions
from fedsparse.transport.trust import Trust
from fedsparse.wire.messages import (
    Failure,
    Message,
    Part,
    Receipt,
    Stage,
    Status,
    Task,
    Update,
    Verdict,
)
from fedsparse.wire.topics import Topics

TOPICS = Topics("home")
DIGEST = hashlib.sha256(b"").hexdigest()
SMALL = ChannelOptions(inline_bytes=500, chunk_bytes=100, window=2, in_flight_bytes=350)
FAILURE = Failure(job="watch", round_id=1, reason="x")
RECEIPT = Receipt(job="watch", round_id=1, update_digest=DIGEST, verdict=Verdict.ACCEPTED)


def some_body(size: int, seed: int = 1) -> Bytes:
    return Bytes(random.Random(seed).randbytes(size))


def file_of(path: Path, size: int, seed: int = 1) -> File:
    """A body on the disk, which was never in memory as a whole."""
    draw, digest = random.Random(seed), hashlib.sha256()
    with path.open("wb") as file:
        for offset in range(0, size, 65_536):
            block = draw.randbytes(min(65_536, size - offset))
            digest.update(block)
            file.write(block)
    return File(path=path, size=size, digest=digest.hexdigest())


def update(body: Body, loss: float = 0.0) -> Update:
    return Update(
        job="watch", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=9, mask_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=body.size),), loss=loss,
    )  # fmt: skip


def task(body: Body, seconds_left: float = 1.0) -> Task:
    return Task(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST,
        parts=(Part(name="values", codec="f32", size=body.size),), seconds_left=seconds_left,
    )  # fmt: skip


class UnrulyBroker(MemoryBroker):
    """Does to chunks what networks and brokers do; `sent` tells which were sent how often.

    Args:
        seed: of all that happens to them.
        loss: share that is acknowledged and lost.
        late: share that is kept back, and comes after others.
        twice: share that comes twice.
    """

    def __init__(
        self, seed: int = 0, *, loss: float = 0.0, late: float = 0.0, twice: float = 0.0,
        sessions: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(sessions=sessions)
        self.draw = random.Random(seed)
        self.loss, self.late, self.twice = loss, late, twice
        self.sent: list[int] = []
        self._pen: list[tuple[str, bytes]] = []

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if "/chunk/" not in topic:
            super().route(topic, payload, retain=retain)
            return
        self.sent.append(int(topic.rpartition("/")[2]))
        if self.draw.random() < self.loss:
            return
        copies = 2 if self.draw.random() < self.twice else 1
        self._pen += [(topic, payload)] * copies
        if self.draw.random() >= self.late:
            self.release()

    def release(self) -> None:
        """What was kept back comes now, in any order."""
        pen, self._pen = self._pen, []
        self.draw.shuffle(pen)
        for topic, payload in pen:
            super().route(topic, payload, retain=False)


@dataclass
class World:
    """A gateway, and devices by name.

    Attributes:
        folder: the spools are in it, by name.
        now_s: the clock.
        trusts: whom each end believes, by name; empty where nothing is signed.
    """

    folder: Path
    broker: MemoryBroker
    options: ChannelOptions = SMALL
    now_s: float = 0.0
    channels: list[Channel] = field(default_factory=list)
    transports: dict[str, MemoryTransport] = field(default_factory=dict)
    trusts: dict[str, Trust] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gateway = self.open("")

    def device(self, name: str, options: ChannelOptions | None = None) -> Channel:
        return self.open(name, options)

    def open(self, name: str, options: ChannelOptions | None = None) -> Channel:
        """A channel over the folder of this name, as a process that starts (again) has it."""
        status = Status(device=name, online=True, board="pi") if name else None
        self.transports[name] = MemoryTransport(
            self.broker,
            client_id=name or "the gateway",
            will=status_will(TOPICS, status) if status else None,
        )
        channel = Channel(
            self.transports[name], TOPICS, device=name, spool=self.folder / (name or "gateway"),
            status=status, options=options or self.options, trust=self.trusts.get(name),
            clock=lambda: self.now_s,
        )  # fmt: skip
        self.channels.append(channel)
        channel.start()
        return channel

    def kill(self, name: str) -> None:
        """The process behind a connection dies: what it had in memory is gone."""
        transport = self.transports[name]
        self.broker.cut(transport)
        transport._closed = True
        self.channels = [one for one in self.channels if one._transport is not transport]

    def inject(self, topic: str, payload: bytes) -> None:
        self.broker.route(topic, payload, retain=False)

    def spool(self, name: str) -> list[Path]:
        return sorted(path for path in (self.folder / name).rglob("*") if path.is_file())

    def close(self) -> None:
        for channel in self.channels:
            channel.close()


def steps(*channels: Channel, accept: bool = True) -> Iterator[ChannelEvent]:
    """The events of all channels, in turn, until nothing moves any more.

    Heads are accepted; a body is read while it is there, and comes in memory.
    """
    moves = True
    while moves:
        moves = False
        for channel in channels:
            while (event := channel.poll(0.0)) is not None:
                moves = True
                if isinstance(event, Announced) and accept:
                    channel.accept(event)
                elif isinstance(event, Delivered):
                    event = replace(event, body=Bytes(event.body.read()))
                yield event
        moves = moves or any(is_due(channel) for channel in channels)


def is_due(channel: Channel) -> bool:
    """Whether something waits to be received."""
    transport = channel._transport
    assert isinstance(transport, MemoryTransport)
    return bool(transport._events)


def drain(*channels: Channel, accept: bool = True) -> list[ChannelEvent]:
    """All events of all channels, until nothing moves any more."""
    return list(steps(*channels, accept=accept))


def delivered(*channels: Channel) -> list[Message]:
    return [event.message for event in drain(*channels) if isinstance(event, Delivered)]
