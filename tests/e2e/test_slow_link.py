"""Large bodies over a slow link that is cut: little is sent twice, and others get through."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_client.emulation.confine import confine
from edge_client.emulation.link import Link
from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism
from fedsparse.body import Bytes
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

pytestmark = pytest.mark.e2e

TOPICS = Topics("site")
BODY = Bytes(random.Random(1).randbytes(8_000_000))
PARTS = (Part(name="values", codec="f32", size=BODY.size),)
RATE = 400_000.0
DELAY_S = 0.02
CUT_AFTER_BYTES = 6_000_000
CUT_S = 1.0
PATIENCE_S = 120.0


def test_an_update_over_a_slow_link_that_is_cut(tmp_path: Path) -> None:
    update = Update(
        job="watch", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=9,
        mask_digest="ab" * 32, parts=PARTS,
    )  # fmt: skip
    with ends(tmp_path, Link(up_bytes_per_s=RATE, delay_s=DELAY_S)) as (gateway, device, place):
        device.send(None, update, BODY)
        run = Run(device=device, gateway=gateway, sender=device, receiver=gateway, small=failure)
        cut_on_the_way(run, place, lambda: carried_bytes(place.usage().up_bytes))
        sent = carried_bytes(place.usage().up_bytes)
    judge(run, update, sent)


def test_a_task_over_a_slow_link_that_is_cut(tmp_path: Path) -> None:
    task = Task(
        job="watch", round_id=1, attempt=0, stage=Stage.TRAIN, plan_digest="ab" * 32, parts=PARTS
    )
    link = Link(up_bytes_per_s=RATE, down_bytes_per_s=RATE, delay_s=DELAY_S)
    with ends(tmp_path, link) as (gateway, device, place):
        gateway.send("pi", task, BODY)
        run = Run(device=device, gateway=gateway, sender=gateway, receiver=device, small=receipt)
        cut_on_the_way(run, place, lambda: carried_bytes(place.usage().down_bytes))
        sent = carried_bytes(place.usage().down_bytes)
    judge(run, task, sent)


@contextmanager
def ends(folder: Path, link: Link) -> Iterator[tuple[Channel, Channel, Place]]:
    """A gateway beside the broker, and a device behind a link."""
    with ExitStack() as stack:
        broker = start_broker(folder / "broker", prefer="mosquitto")
        stack.callback(broker.stop)
        place = stack.enter_context(confine(link=link, avoid=[Mechanism.NAMESPACE]))
        host, port = place.reach("127.0.0.1", broker.port)
        gateway = open_channel(folder, BrokerConfig(port=broker.port), "")
        stack.callback(gateway.close)
        device = open_channel(folder, BrokerConfig(host=host, port=port, keepalive_s=5), "pi")
        stack.callback(device.close)
        await_device(gateway, device)
        yield gateway, device, place


def await_device(gateway: Channel, device: Channel) -> None:
    """Return when the device has subscribed: it says its status after that."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        device.poll(0.005)
        event = gateway.poll(0.005)
        if isinstance(event, Delivered) and isinstance(event.message, Status):
            return
    raise AssertionError("the device did not come")


def cut_on_the_way(run: Run, place: Place, carried: Callable[[], int]) -> None:
    """Cut the link when most of the body has come through; small messages go beside it."""
    run.until(lambda: carried() >= CUT_AFTER_BYTES - RATE, others_every_s=1.0)
    run.until(lambda: carried() >= CUT_AFTER_BYTES)
    place.cut_link(CUT_S)
    run.until(lambda: run.reconnects == 1)
    run.until(lambda: run.arrived is not None, others_every_s=1.0)


def judge(run: Run, message: Message, carried: int) -> None:
    assert run.arrived is not None
    assert run.arrived.message == message
    assert run.arrived_whole
    assert carried / BODY.size - 1 <= 0.05
    assert len(run.waits_s) >= 10
    assert max(run.waits_s.values()) <= 1.0


def failure(number: int) -> tuple[None, Failure]:
    return None, Failure(job="watch", round_id=number, reason="small")


def receipt(number: int) -> tuple[str, Receipt]:
    verdict = Verdict.ACCEPTED
    return "pi", Receipt(job="watch", round_id=number, update_digest="cd" * 32, verdict=verdict)


def open_channel(folder: Path, broker: BrokerConfig, device: str) -> Channel:
    channel = Channel(
        MqttTransport(broker, client_id=device or "gateway", reconnect_s=(0.25, 1.0)),
        TOPICS,
        device=device,
        spool=folder / (device or "gateway"),
        status=Status(device=device, online=True) if device else None,
    )
    channel.start()
    return channel


def carried_bytes(count: int | None) -> int:
    assert count is not None
    return count


@dataclass
class Run:
    """Both ends, kept going.

    Attributes:
        sender, receiver: of the body, and of the small messages beside it.
        small: makes the one of a number, and says to whom.
        reconnects: of the device.
        waits_s: by number, how long small messages took beside the transfer.
        arrived: the message with the body.
        arrived_whole: whether its bytes were the right ones.
    """

    device: Channel
    gateway: Channel
    sender: Channel
    receiver: Channel
    small: Callable[[int], tuple[str | None, Message]]
    reconnects: int = 0
    waits_s: dict[int, float] = field(default_factory=dict)
    arrived: Delivered | None = None
    arrived_whole: bool = False
    sent_s: dict[int, float] = field(default_factory=dict)

    def until(self, holds: Callable[[], bool], others_every_s: float = math.inf) -> None:
        """Go on; send a small message every so often."""
        began_s = time.monotonic()
        next_s = began_s + others_every_s
        while not holds():
            now_s = time.monotonic()
            assert now_s < began_s + PATIENCE_S
            if now_s >= next_s:
                next_s += others_every_s
                number = len(self.sent_s)
                self.sent_s[number] = now_s
                self.sender.send(*self.small(number))
            for channel in (self.device, self.gateway):
                self.take(channel)

    def take(self, channel: Channel) -> None:
        """The next event of one end."""
        event = channel.poll(0.005)
        self.reconnects += channel is self.device and isinstance(event, Connected)
        if isinstance(event, Announced):
            channel.accept(event)
        elif isinstance(event, Delivered) and isinstance(event.message, Failure | Receipt):
            number = event.message.round_id
            self.waits_s.setdefault(number, time.monotonic() - self.sent_s[number])
        elif isinstance(event, Delivered) and event.body.size:
            self.arrived = event
            self.arrived_whole = Bytes(event.body.read()).digest == BODY.digest
