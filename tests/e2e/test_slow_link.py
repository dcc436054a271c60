"""A large update over a slow link that is cut: little is sent twice, and others get through."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_client.emulation.confine import confine
from edge_client.emulation.link import Link
from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism
from fedsparse.transport.base import Connected
from fedsparse.transport.channel import Channel, Delivered
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.wire.messages import Failure, Part, Stage, Update
from fedsparse.wire.topics import Topics
from tools.broker import start_broker

pytestmark = pytest.mark.e2e

TOPICS = Topics("site")
BODY = random.Random(1).randbytes(8_000_000)
RATE = 400_000.0
CUT_AFTER_BYTES = 6_000_000
CUT_S = 1.0
PATIENCE_S = 120.0


def test_an_update_over_a_slow_link_that_is_cut(tmp_path: Path) -> None:
    update = Update(
        job="watch", round_id=1, stage=Stage.TRAIN, level=0.1, num_examples=9,
        mask_digest="ab" * 32, parts=(Part(name="values", codec="f32", size=len(BODY)),),
    )  # fmt: skip
    link = Link(up_bytes_per_s=RATE, delay_s=0.02)
    with ExitStack() as stack:
        broker = start_broker(tmp_path / "broker", prefer="mosquitto")
        stack.callback(broker.stop)
        place = stack.enter_context(confine(link=link, avoid=[Mechanism.NAMESPACE]))
        host, port = place.reach("127.0.0.1", broker.port)
        gateway = open_channel(tmp_path, BrokerConfig(port=broker.port), "")
        stack.callback(gateway.close)
        device = open_channel(tmp_path, BrokerConfig(host=host, port=port, keepalive_s=5), "pi")
        stack.callback(device.close)
        device.send(None, update, BODY)
        run = Run(device=device, gateway=gateway)
        run.until(lambda: sent_bytes(place) >= CUT_AFTER_BYTES - RATE, others_every_s=1.0)
        run.until(lambda: sent_bytes(place) >= CUT_AFTER_BYTES)
        place.cut_link(CUT_S)
        run.until(lambda: run.reconnects == 1)
        run.until(lambda: run.arrived is not None, others_every_s=1.0)
        sent = sent_bytes(place)
    assert run.arrived is not None
    assert bytes(run.arrived.body) == BODY
    assert sent / len(BODY) - 1 <= 0.05
    assert len(run.waits_s) >= 10
    assert max(run.waits_s.values()) <= 1.0


def open_channel(folder: Path, broker: BrokerConfig, device: str) -> Channel:
    channel = Channel(
        MqttTransport(broker, client_id=device or "gateway", reconnect_s=(0.25, 1.0)),
        TOPICS,
        device=device,
        spool=folder / (device or "gateway"),
    )
    channel.start()
    return channel


def sent_bytes(place: Place) -> int:
    up_bytes = place.usage().up_bytes
    assert up_bytes is not None
    return up_bytes


@dataclass
class Run:
    """Both ends, kept going.

    Attributes:
        reconnects: of the device.
        waits_s: by number, how long small messages took beside the transfer.
        arrived: the update.
    """

    device: Channel
    gateway: Channel
    reconnects: int = -1
    waits_s: dict[int, float] = field(default_factory=dict)
    arrived: Delivered | None = None
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
                self.device.send(None, Failure(job="watch", round_id=number, reason="small"))
            self.reconnects += isinstance(self.device.poll(0.005), Connected)
            event = self.gateway.poll(0.005)
            if isinstance(event, Delivered) and isinstance(event.message, Failure):
                number = event.message.round_id
                self.waits_s.setdefault(number, time.monotonic() - self.sent_s[number])
            elif isinstance(event, Delivered):
                self.arrived = event
