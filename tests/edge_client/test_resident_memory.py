"""What a device's agent takes while it waits, with a live connection to a real broker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority
from real_mosquitto import Mosquitto, tls_lines

from edge_client.config import ClientConfig, DataConfig
from fedsparse.transport.config import BrokerConfig, TlsConfig
from tools.demo.toml_writer import to_toml

ROOT = Path(__file__).parents[2]
MB = 1e6
PLAIN_MB = 27.0
TLS_MB = 32.0


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("secured", [False, True])
def test_the_waiting_agent_is_small(
    tmp_path: Path, mosquitto: str, secured: bool, protocol: str
) -> None:
    del mosquitto  # that it is there is enough
    authority = Authority(tmp_path / "authority")
    lines = tls_lines(authority.ca, authority.sign("broker", "127.0.0.1"))
    broker = Mosquitto(tmp_path / "broker", lines if secured else "")
    pair = authority.sign("pi")
    tls = TlsConfig(ca=authority.ca, certificate=pair.certificate, key=pair.key)
    config = BrokerConfig(port=broker.port, protocol=protocol, tls=tls if secured else None)
    try:
        with connected_agent(tmp_path, config) as agent:
            assert resident_mb(agent.pid) <= (TLS_MB if secured else PLAIN_MB)
    finally:
        broker.stop()


@contextmanager
def connected_agent(folder: Path, broker: BrokerConfig) -> Iterator[subprocess.Popen[str]]:
    """A running `edge-client run` that has said that it is connected."""
    np.savez(folder / "data.npz", x=np.zeros((8, 3), np.float32), y=np.zeros(8, np.int64))
    config = ClientConfig(
        device="pi", site="lab", store=folder / "store",
        data=DataConfig(path=folder / "data.npz"), broker=broker,
    )  # fmt: skip
    path = folder / "client.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    warm_up = "import edge_client.agent.main, fedsparse.transport.tls"  # compiled once, then read
    subprocess.run([sys.executable, "-c", warm_up], check=True, cwd=ROOT)
    command = [sys.executable, "-m", "edge_client.cli", "run", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as agent:
        try:
            assert agent.stderr is not None
            said = next((line for line in agent.stderr if "broker=connected" in line), "")
            assert said, f"it ended with {agent.wait()}"
            yield agent
        finally:
            agent.terminate()


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Rss:")).split()[1]) * 1024 / MB
