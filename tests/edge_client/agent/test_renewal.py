"""The agent starts the renewal of its certificate when a third of its life is left."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.identity.authority import Authority, pem_of
from edge_client.agent.renewal import LOOK_S, Renewal, known_moment_s
from edge_client.config import ClientConfig
from edge_client.identity.folder import Home, IdentityFolder
from fedsparse.config import build

BEGIN = datetime(2026, 5, 4, tzinfo=timezone.utc)
HOME = Home(
    host="gw", port=8883, enrolment_host="gw", enrolment_port=8884, now_ms=1_700_000_000_500
)


class Device:
    """An enrolled device with a clock of its own; it notes what the agent starts."""

    def __init__(self, folder: Path, *, tls: bool = True) -> None:
        table = {
            "device": "cam-01", "site": "plant", "store": "store", "data": {"path": "d.npz"},
        }  # fmt: skip
        names = {"ca": "id/ca.pem", "certificate": "id/device.pem", "key": "id/device.pem"}
        broker = {"broker": {"tls": names}} if tls else {}
        self.config = build(ClientConfig, {**table, **broker}, where="c", base=folder)
        self.path = folder / "client.toml"
        self.clock_s = 0.0
        self.wall = BEGIN
        self.started: list[Sequence[str]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.command = (sys.executable, "-c", "pass")

    def enrol(self) -> None:
        folder = self.path.parent
        authority = Authority.create(folder / "fleet", "plant", BEGIN)
        key = Ed25519PrivateKey.generate().public_key()
        certificate = authority.issue_device("cam-01", key, BEGIN, life=timedelta(days=89))
        IdentityFolder.of(self.config).settle(
            device_pem=pem_of(certificate), authority_pem=b"", gateway_keys=(), home=HOME
        )

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        self.started.append(command)
        self.processes.append(subprocess.Popen(self.command, stdin=subprocess.PIPE))
        return self.processes[-1]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def renewal(self) -> Renewal:
        return Renewal(
            self.path, self.config, clock=lambda: self.clock_s,
            wall=lambda: self.wall.timestamp(), rng=random.Random(1), start=self.start,
        )  # fmt: skip


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    made.enrol()
    yield made
    made.end()


def test_nothing_is_started_before_two_thirds_of_its_life(device: Device) -> None:
    renewal = device.renewal()
    device.wall = BEGIN + timedelta(days=58, hours=23)  # it began a day before BEGIN
    renewal.tick()
    assert device.started == []
    device.wall += timedelta(hours=1)
    renewal.tick()
    assert device.started == []  # it does not look again so soon
    device.clock_s += LOOK_S[1]
    renewal.tick()
    assert [list(one[1:]) for one in device.started] == [
        ["-m", "edge_client.cli", "renew", str(device.path)]
    ]
    renewal.close()


def test_one_process_runs_at_a_time_and_a_failed_one_is_tried_again_later(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.wall = BEGIN + timedelta(days=80)
    device.command = (sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(2)")
    renewal = device.renewal()
    renewal.tick()
    device.clock_s += 10 * LOOK_S[1]
    renewal.tick()
    assert len(device.started) == 1
    device.processes[0].communicate(b"")
    renewal.tick()
    assert "renewed=no exit=2" in caplog.text
    renewal.tick()
    assert len(device.started) == 2
    renewal.close()


def test_a_machine_that_has_no_room_for_the_process_goes_on(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.wall = BEGIN + timedelta(days=80)
    device.command = ("/nonexistent",)
    device.renewal().tick()
    assert "renewed=no" in caplog.text


def test_looks_are_spread(device: Device) -> None:
    times = set()
    for seed in range(20):
        renewal = Renewal(
            device.path, device.config, clock=lambda: 0.0, wall=lambda: BEGIN.timestamp(),
            rng=random.Random(seed), start=device.start,
        )  # fmt: skip
        renewal.tick()
        times.add(renewal._next_s)
    assert len(times) == 20
    assert LOOK_S[0] <= min(times) < max(times) <= LOOK_S[1]


def test_the_end_of_the_agent_ends_the_process(device: Device) -> None:
    device.wall = BEGIN + timedelta(days=80)
    device.command = (sys.executable, "-c", "import time; time.sleep(600)")
    renewal = device.renewal()
    renewal.tick()
    process = renewal._process
    assert process is not None
    renewal.close()
    assert process.returncode is not None


@pytest.mark.parametrize("damage", [b"", b"junk", b"\xff"])
def test_a_damaged_certificate_starts_nothing(device: Device, damage: bytes) -> None:
    IdentityFolder.of(device.config).device.write_bytes(damage)
    device.renewal().tick()
    assert device.started == []


def test_a_device_without_tls_or_whose_identity_came_otherwise_renews_nothing(
    tmp_path: Path,
) -> None:
    for device in (Device(tmp_path / "a", tls=False), Device(tmp_path / "b")):
        device.renewal().tick()
        assert device.started == []
        assert known_moment_s(device.config) == 0.0


def test_the_gateways_time_at_enrolment_is_a_moment_that_has_passed(device: Device) -> None:
    assert known_moment_s(device.config) == 1_700_000_000.5
