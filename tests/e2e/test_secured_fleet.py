"""A job in a fleet with an authority of its own: real processes, each with its certificate."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from e2e_fleet import JOB, Event, Fleet

from aggregator.identity import fleet as secured
from aggregator.identity.authority import pem_of
from aggregator.identity.issuing import note
from aggregator.identity.keys import key_pem
from aggregator.identity.moment import to_ms
from aggregator.job import CohortConfig
from aggregator.store import devices
from edge_client.config import ClientConfig
from fedsparse.config import load
from fedsparse.durable import write_secret
from fedsparse.transport.config import BrokerConfig, TlsConfig
from tools.broker import free_port
from tools.demo.processes import python_module
from tools.demo.toml_writer import to_toml

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("mosquitto")]


COHORT = CohortConfig(
    min_devices=2, expected_devices=2, gather_s=60, deadline_s=120, offline_grace_s=1
)


class SecuredFleet(Fleet):
    """The same fleet, but nobody comes in without a certificate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, replace(JOB, cohort=COHORT))
        self.broker.stop()  # the one for trials
        ports = (free_port("127.0.0.1", 0), free_port("127.0.0.1", 0), free_port("127.0.0.1", 0))
        self.home = folder / "fleet"
        now = datetime.now(timezone.utc)
        self.fleet = secured.Fleet.create(self.home, JOB.site, ["localhost"], now, ports=ports)
        job = replace(self.job, broker=BrokerConfig(keepalive_s=5), fleet=self.home)
        (folder / "job.toml").write_text(to_toml(job), encoding="utf-8")
        for device in self.devices:
            self._let_in(device, now)

    def _let_in(self, device: str, now: datetime) -> None:
        key = Ed25519PrivateKey.generate()
        public = key.public_key()
        certificate = self.fleet.authority.issue_device(device, public, now)
        with self.fleet.store.writing() as db:
            devices.enrol(db, device, public.public_bytes_raw(), to_ms(now))
            note(db, certificate, now)
        path = self.folder / device / "identity" / "device.pem"
        write_secret(path, pem_of(certificate) + key_pem(key))
        ca = self.home / "authority" / "ca.crt"
        tls = TlsConfig(ca=ca, certificate=path, key=path)
        port = self.fleet.config.broker.port
        broker = BrokerConfig(host="localhost", port=port, keepalive_s=5, tls=tls)
        toml = self.folder / f"{device}.toml"
        client = replace(load(ClientConfig, toml), broker=broker)
        toml.write_text(to_toml(client), encoding="utf-8")

    def start_broker(self) -> None:
        command = python_module("tools.cli", "broker", "--fleet", str(self.home))
        self._children.start("broker", command)

    def __exit__(self, *error: object) -> None:
        self.fleet.close()
        super().__exit__(*error)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SecuredFleet]:
    with SecuredFleet(tmp_path) as made:
        yield made


def test_a_job_goes_on_without_the_device_that_was_thrown_out(fleet: SecuredFleet) -> None:
    fleet.start_broker()
    fleet.start()
    fleet.wait_for(lambda event: is_update(event, of="device-2"))

    command = ["identity", "revoke", "device-2", "--fleet", str(fleet.home)]
    done = subprocess.run(
        python_module("tools.cli", *command), capture_output=True, text=True, check=True
    )

    assert "its connection is ended" in done.stdout
    fleet.wait_for(lambda event: is_gone(event, "device-2"))
    before = len(fleet.events)
    fleet.wait_until_done()
    after = fleet.events[before:]
    assert "device-2" not in {event.get("device") for event in after}
    assert any(is_update(event, of="device-0") for event in after)


def is_update(event: Event, of: str) -> bool:
    return (event["event"], event.get("device")) == ("update", of)


def is_gone(event: Event, device: str) -> bool:
    return (event["event"], event.get("device")) == ("device_offline", device)
