"""A large body over a slow link that is cut: what is sent twice, and how long others wait."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_client.bench.race import WorkerError
from edge_client.emulation.confine import confine
from edge_client.emulation.link import Link
from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism
from fedsparse.body import Body, Bytes, digest_of
from fedsparse.transport.base import Connected
from fedsparse.transport.channel import Announced, Channel, Delivered
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.mqtt import MqttTransport
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
from tools.broker import start_broker

MOST_RESENT: Final = 0.05
MOST_WAIT_S: Final = 1.0
TOPICS: Final = Topics("bench")
DEVICE: Final = "device"
DIGEST: Final = "ab" * 32
KEEPALIVE_S: Final = 5
DELAY_S: Final = 0.02
CUT_S: Final = 1.0
SMALL_EVERY_S: Final = 1.0
POLL_S: Final = 0.005
PATIENCE: Final = 6.0  # times as long as the link needs for the body


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLinkRequest:
    """What goes through which link.

    Attributes:
        body_bytes: of the body.
        rate: bytes a second, each way.
        cut_every_bytes: the link is cut for a second whenever so much has gone into it.
    """

    body_bytes: int = 8_000_000
    rate: float = 400_000.0
    cut_every_bytes: int = 6_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLinkResult:
    """One direction.

    Attributes:
        direction: `up` from the device, or `down`.
        body_bytes, sent_bytes: of the body, and what went into the link for it, all told.
        cuts: of the link.
        wall_s: from the message to the whole body.
        waits_s: how long each small message took from one end's queue to the other's hands.
        whole: whether the right bytes have come.
    """

    direction: str
    body_bytes: int
    sent_bytes: int
    cuts: int
    wall_s: float
    waits_s: tuple[float, ...]
    whole: bool

    @property
    def resent_ratio(self) -> float:
        """Bytes beyond the body's, as a share of it: chunks, questions and what was lost."""
        return self.sent_bytes / self.body_bytes - 1

    @property
    def control_wait_s(self) -> float:
        """The longest wait of a small message."""
        return max(self.waits_s, default=math.inf)

    @property
    def holds(self) -> bool:
        """All of it."""
        near = self.resent_ratio <= MOST_RESENT and self.control_wait_s <= MOST_WAIT_S
        return self.whole and near

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        names = ("resent_ratio", "control_wait_s", "holds")
        return {**asdict(self), **{name: getattr(self, name) for name in names}}


def measure_slow_link(
    request: SlowLinkRequest, direction: str, folder: Path, tell: Callable[[float], None]
) -> SlowLinkResult:
    """Send one body in one direction.

    Args:
        request: what, and through which link.
        direction: `up` or `down`.
        folder: for the broker and the bodies on their way.
        tell: is told which share has gone into the link.

    Raises:
        WorkerError: it does not arrive.
        ConfigError: mosquitto is not installed.
    """
    body = Bytes(random.Random(1).randbytes(request.body_bytes))  # noqa: S311 (no secret)
    is_up = direction == "up"
    with _ends(request, folder) as (gateway, device, place):
        sender, receiver = (device, gateway) if is_up else (gateway, device)
        transfer = _Transfer(
            device=device, gateway=gateway, sender=sender, receiver=receiver, body=body, up=is_up,
            patience_s=PATIENCE * request.body_bytes / request.rate + 30.0,
        )  # fmt: skip
        transfer.begin()

        def carried() -> int:
            usage = place.usage()
            return (usage.up_bytes if is_up else usage.down_bytes) or 0

        def gone(limit: float) -> bool:
            tell(min(1.0, carried() / request.body_bytes))
            return transfer.arrived or carried() >= limit

        cuts = 0
        while not transfer.arrived:
            at = (cuts + 1) * request.cut_every_bytes
            transfer.until(lambda at=at: gone(at - request.rate), SMALL_EVERY_S)  # type: ignore[misc]
            transfer.until(lambda at=at: gone(at))  # type: ignore[misc]
            if not transfer.arrived:
                cuts += 1
                place.cut_link(CUT_S)
                transfer.until(lambda: transfer.reconnects == cuts)  # noqa: B023 (called at once)
        return SlowLinkResult(
            direction=direction,
            body_bytes=request.body_bytes,
            sent_bytes=carried(),
            cuts=cuts,
            wall_s=transfer.wall_s,
            waits_s=tuple(transfer.waits_s.values()),
            whole=transfer.whole,
        )


@contextmanager
def _ends(request: SlowLinkRequest, folder: Path) -> Iterator[tuple[Channel, Channel, Place]]:
    """A gateway beside the broker, and a device behind the link that has said that it is there."""
    link = Link(up_bytes_per_s=request.rate, down_bytes_per_s=request.rate, delay_s=DELAY_S)
    with ExitStack() as stack:
        broker = start_broker(folder / "broker", prefer="mosquitto")
        stack.callback(broker.stop)
        place = stack.enter_context(confine(link=link, avoid=[Mechanism.NAMESPACE]))
        host, port = place.reach("127.0.0.1", broker.port)
        gateway = open_channel(folder, BrokerConfig(port=broker.port), "")
        stack.callback(gateway.close)
        config = BrokerConfig(host=host, port=port, keepalive_s=KEEPALIVE_S)
        device = open_channel(folder, config, DEVICE)
        stack.callback(device.close)
        await_device(gateway, device)
        yield gateway, device, place


def open_channel(folder: Path, broker: BrokerConfig, device: str) -> Channel:
    """One end; the gateway's where `device` is empty. It is connected."""
    channel = Channel(
        MqttTransport(broker, client_id=device or "gateway", reconnect_s=(0.25, 1.0)),
        TOPICS,
        device=device,
        spool=folder / (device or "gateway"),
        status=Status(device=device, online=True) if device else None,
    )
    channel.start()
    return channel


def await_device(gateway: Channel, device: Channel | None = None) -> None:
    """Return when the device has subscribed: it says its status after that.

    Args:
        gateway: where the status comes to.
        device: kept going meanwhile, where it is of this process.

    Raises:
        WorkerError: it does not come.
    """
    end_s = time.monotonic() + 30.0
    while time.monotonic() < end_s:
        if device is not None:
            device.poll(POLL_S)
        event = gateway.poll(POLL_S)
        if isinstance(event, Delivered) and isinstance(event.message, Status):
            return
    raise WorkerError("the device did not connect")


def large_message(body: Body, *, up: bool) -> tuple[str | None, Message]:
    """An update or a task with such a body, and to whom it goes."""
    parts = (Part(name="values", codec="f32", size=body.size),)
    if up:
        return None, Update(
            job="bench", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=1,
            mask_digest=DIGEST, parts=parts,
        )  # fmt: skip
    return DEVICE, Task(
        job="bench", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest=DIGEST, parts=parts
    )


@dataclass(slots=True, kw_only=True)
class _Transfer:
    """Both ends, kept going.

    Attributes:
        sender, receiver: of the body, and of the small messages beside it.
        reconnects: of the device.
        waits_s: by number, how long small messages took.
        arrived, whole, wall_s: whether the body has come, whether it was right, how long it took.
    """

    device: Channel
    gateway: Channel
    sender: Channel
    receiver: Channel
    body: Bytes
    up: bool
    patience_s: float
    reconnects: int = 0
    waits_s: dict[int, float] = field(default_factory=dict)
    arrived: bool = False
    whole: bool = False
    wall_s: float = 0.0
    _began_s: float = 0.0
    _sent_s: dict[int, float] = field(default_factory=dict)

    def begin(self) -> None:
        to, message = large_message(self.body, up=self.up)
        self._began_s = time.monotonic()
        self.sender.send(to, message, self.body)

    def until(self, holds: Callable[[], bool], small_every_s: float = math.inf) -> None:
        """Go on; send a small message every so often."""
        next_s = time.monotonic() + small_every_s
        while not holds():
            now_s = time.monotonic()
            if now_s > self._began_s + self.patience_s:
                raise WorkerError(f"no whole body after {self.patience_s:.0f} s")
            if now_s >= next_s:
                next_s += small_every_s
                self._send_small(now_s)
            for channel in (self.device, self.gateway):
                self._take(channel)

    def _send_small(self, now_s: float) -> None:
        number = len(self._sent_s)
        self._sent_s[number] = now_s
        if self.up:
            self.sender.send(None, Failure(job="bench", round_id=number, reason="small"))
        else:
            verdict = Verdict.ACCEPTED
            self.sender.send(
                DEVICE,
                Receipt(job="bench", round_id=number, update_digest=DIGEST, verdict=verdict),
            )

    def _take(self, channel: Channel) -> None:
        event = channel.poll(POLL_S)
        self.reconnects += channel is self.device and isinstance(event, Connected)
        if isinstance(event, Announced):
            channel.accept(event)
        elif isinstance(event, Delivered) and isinstance(event.message, Failure | Receipt):
            number = event.message.round_id
            self.waits_s.setdefault(number, time.monotonic() - self._sent_s[number])
        elif isinstance(event, Delivered) and event.body.size:
            self.wall_s = time.monotonic() - self._began_s
            self.arrived, self.whole = True, digest_of(event.body) == self.body.digest
