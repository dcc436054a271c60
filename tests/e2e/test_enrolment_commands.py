"""An operator and a device, with the commands that they have: real processes, a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aggregator.identity.broker_files import enrolment_broker
from aggregator.identity.running import process_of
from tools.broker import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]
PATIENCE_S = 60.0
CLIENT = """\
device = "{device}"
site = "plant"
store = "store"
[data]
path = "data.npz"
[broker]
host = "localhost"
port = {port}
[broker.tls]
ca = "identity/ca.pem"
certificate = "identity/device.pem"
key = "identity/device.pem"
"""


def eventually(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.05)
    return condition()


def gateway(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.cli", "identity", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def device(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_client.cli", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


@contextmanager
def serving(fleet: Path) -> Iterator[subprocess.Popen[str]]:
    """`fedsparse identity serve`, until the block ends; it is killed if it was not stopped."""
    command = [sys.executable, "-m", "tools.cli", "identity", "serve", "--fleet", str(fleet)]
    log = fleet.parent / "serve.log"
    with log.open("w") as output, subprocess.Popen(command, stderr=output, text=True) as process:
        try:
            end_s = time.monotonic() + PATIENCE_S
            while "enrolment=open" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end_s, log.read_text()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "fleet"
    ports = [str(free_port("127.0.0.1", 0)) for _ in range(3)]
    made = gateway(
        "init", str(folder), "--site", "plant", "--host", "localhost", "--port", ports[0],
        "--enrolment-port", ports[1], "--service-port", ports[2],
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    yield folder
    if (left := process_of(enrolment_broker(folder))) is not None:
        os.kill(left, signal.SIGKILL)


def code_for(fleet: Path, name: str) -> dict[str, str]:
    made = gateway("token", name, "--json", "--fleet", str(fleet))
    assert made.returncode == 0, made.stderr
    document: dict[str, str] = json.loads(made.stdout)
    return document


def client(fleet: Path, name: str) -> Path:
    path = fleet.parent / name / "client.toml"
    path.parent.mkdir()
    path.write_text(CLIENT.format(device=name, port=1883))
    return path


def enrol(path: Path, code: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return device(
        "enrol", str(path), "--fingerprint", code["short_fingerprint"], "--port", str(code["port"]),
        stdin=code["code"] + "\n",
    )  # fmt: skip


def test_a_device_comes_in_by_the_commands_and_the_service_survives_being_killed(
    fleet: Path,
) -> None:
    first, second = client(fleet, "cam-01"), client(fleet, "cam-02")
    with serving(fleet) as service:
        done = enrol(first, code_for(fleet, "cam-01"))
        assert (done.returncode, done.stdout[:16]) == (0, "enrolled: cam-01"), done.stderr
        assert "set port = " in done.stdout  # client.toml says 1883
        rival = gateway("serve", "--fleet", str(fleet))
        assert rival.returncode == 2
        assert "stop it first" in rival.stderr
        service.kill()
    code = code_for(fleet, "cam-02")
    assert process_of(enrolment_broker(fleet)) is not None  # left behind
    with serving(fleet) as service:
        done = enrol(second, code)
        assert done.returncode == 0, done.stderr
        again = device("renew", str(second), "--now")
        assert (again.returncode, again.stdout[:15]) == (0, "renewed: cam-02"), again.stderr
        (second.parent / "identity" / "device.pem").unlink()
        refused = enrol(second, code)
        assert refused.returncode == 2
        assert "the gateway refuses" in refused.stderr
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert eventually(lambda: process_of(enrolment_broker(fleet)) is None)
    log = (fleet.parent / "serve.log").read_text()
    assert "used before, for another key" in log
    events = (fleet / "events.jsonl").read_text()
    for secret in (code["code"], code["code"].replace("-", "")[4:]):
        assert secret not in log
        assert secret not in events
    assert "Traceback" not in log
