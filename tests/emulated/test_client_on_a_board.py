"""The real client on an emulated board, with a real broker beyond its link."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import pytest

from edge_client.config import ClientConfig, DataConfig
from edge_client.emulation.device import Device
from edge_client.emulation.link import Link
from edge_client.emulation.report import Mechanism
from fedsparse.transport.config import BrokerConfig
from fedsparse.wire.headers import decode_message
from fedsparse.wire.messages import Status
from fedsparse.wire.topics import Topics
from tools.broker import RunningBroker, start_broker
from tools.demo.toml_writer import to_toml

PATIENCE_S = 60
SITE = "lab"
LINK = Link(up_bytes_per_s=200_000, down_bytes_per_s=200_000, delay_s=0.02)


@pytest.fixture
def broker(tmp_path: Path, mosquitto: str) -> Iterator[RunningBroker]:
    del mosquitto  # that it is there is enough
    running = start_broker(tmp_path / "broker", prefer="mosquitto")
    yield running
    running.stop()


class Gateway:
    """Sees what devices say of themselves."""

    def __init__(self, broker: RunningBroker, device: str) -> None:
        self._said: queue.Queue[Status] = queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_message = self._heard
        self.client.on_connect = lambda *_: self.client.subscribe(Topics(SITE).status(device), 1)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def next_status(self) -> Status:
        return self._said.get(timeout=PATIENCE_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _heard(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        status, _ = decode_message(message.payload)
        assert isinstance(status, Status)
        self._said.put(status)


@pytest.mark.device("raspberry-pi-zero-2w", cpu=0.5, link=LINK, avoid=[Mechanism.NAMESPACE])
def test_a_client_joins_over_its_link_goes_with_it_and_comes_back(
    device: Device, broker: RunningBroker, tmp_path: Path
) -> None:
    host, port = device.reach(broker.host, broker.port)
    np.savez(tmp_path / "data.npz", x=np.zeros((8, 3), np.float32), y=np.zeros(8, np.int64))
    config = ClientConfig(
        device="pi", site=SITE, store=tmp_path / "store",
        data=DataConfig(path=tmp_path / "data.npz"),
        broker=BrokerConfig(host=host, port=port, keepalive_s=5),
    )  # fmt: skip
    (tmp_path / "client.toml").write_text(to_toml(config), encoding="utf-8")
    gateway = Gateway(broker, "pi")
    try:
        client = device.start_client(tmp_path / "client.toml")
        assert gateway.next_status().online
        device.place.cut_link()
        assert not gateway.next_status().online  # its will, at once: the connection was reset
        device.place.restore_link()
        assert gateway.next_status().online
        assert client.poll() is None
    finally:
        gateway.close()
    usage = device.place.usage()
    assert usage.up_bytes is not None
    assert usage.up_bytes > 100
    assert usage.peak_memory_bytes is not None
    assert usage.peak_memory_bytes < 60 * 2**20
    assert usage.memory_kills in (0, None)
