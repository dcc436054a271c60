"""docs/broker.md is followed to the letter: its certificates, its mosquitto, its table."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import next_event
from missing_tool import leave_out
from real_mosquitto import Mosquitto

from edge_client.config import ClientConfig
from fedsparse.config import build, read_toml
from fedsparse.transport.base import Connected
from fedsparse.transport.mqtt import MqttTransport

PAGE = Path(__file__).parents[2] / "docs" / "broker.md"
FILES = ("ca.pem", "broker.pem", "broker.key")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_certificates_made_by_hand_let_a_device_in(
    tmp_path: Path, mosquitto: str, protocol: str
) -> None:
    del mosquitto
    if shutil.which("openssl") is None:
        leave_out("openssl is not installed: sudo apt-get install openssl")
    script = f"set -e\n{block('sh')}"
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    _, _, lines = block("conf").partition("\n")  # the listener itself is the test's
    for name in FILES:
        lines = lines.replace(f" {name}\n", f" {tmp_path / name}\n")
    broker = Mosquitto(tmp_path / "mosquitto", lines)
    (tmp_path / "client.toml").write_text(block("toml"), encoding="utf-8")
    table = read_toml(tmp_path / "client.toml")
    table["broker"] |= {"host": "localhost", "port": broker.port, "protocol": protocol}
    device = {"device": "press-1", "site": "lab", "store": "store", "data": {"path": "data.npz"}}
    config = build(ClientConfig, {**device, **table}, where="client.toml", base=tmp_path)
    transport = MqttTransport(config.broker, client_id="press-1")
    try:
        transport.start()
        assert next_event(transport, Connected)
    finally:
        transport.close()
        broker.stop()
