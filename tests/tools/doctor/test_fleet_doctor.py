"""What the gateway's doctor says of a fleet and of its real broker."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gateway_world import Report, examined, write_job

from aggregator.identity import crl, publishing
from aggregator.identity.authority import pem_of
from aggregator.identity.fleet import Fleet
from aggregator.identity.issuing import issue_role
from aggregator.identity.keys import key_pem
from aggregator.identity.moment import utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.upkeep import add_role, keep_fresh
from fedsparse.transport.base import Connected, Disconnected, Published
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Status
from tools.broker import RunningBroker, free_port
from tools.identity.mosquitto import start_mosquitto

DOCTOR = Role(duty=Duty.DOCTOR)
GATEWAY = Role(duty=Duty.GATEWAY, job="digits")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    ports = tuple(free_port("127.0.0.1", 0) for _ in range(3))
    made = Fleet.create(tmp_path / "fleet", "plant", ["localhost"], utc_now(), ports=ports)  # type: ignore[arg-type]
    keep_fresh(made, utc_now())
    add_role(made, DOCTOR, utc_now())
    yield made
    made.close()


@pytest.fixture
def broker(fleet: Fleet, mosquitto: str) -> Iterator[RunningBroker]:
    add_role(fleet, GATEWAY, utc_now())
    running = start_mosquitto(fleet.broker, "", fleet.config.broker.port)
    yield running
    running.stop()


def written(report: Report) -> list[str]:
    return [one["verdict"] for one in report.all("may write")]


def as_role(fleet: Fleet, role: Role, name: str) -> MqttTransport:
    own = fleet.role_file(role)
    tls = TlsConfig(ca=fleet.broker.authority, certificate=own, key=own)
    config = BrokerConfig(host="localhost", port=fleet.config.broker.port, tls=tls)
    return MqttTransport(config, client_id=name)


@pytest.mark.usefixtures("broker")
def test_a_fleet_that_is_well_is_told_so(fleet: Fleet) -> None:
    report = examined(fleet.folder)
    assert [one for one in report.checks if one["fix"]] == []
    assert report.code == 0
    report.says("tls", "ok", "TLSv1.3")
    report.says("packet limit", "ok", "1953 KiB")
    report.says("devices", "ok", "0 have come so far, 0 online")


@pytest.mark.usefixtures("broker")
def test_a_job_of_a_fleet_may_do_what_it_must(fleet: Fleet, tmp_path: Path) -> None:
    report = examined(write_job(tmp_path, site="plant", more='fleet = "fleet"\n'))
    assert report.code == 0
    assert written(report) == ["ok", "ok", "ok"]


def test_a_topic_that_the_job_may_not_write_is_told(
    fleet: Fleet, tmp_path: Path, mosquitto: str
) -> None:
    issue_role(fleet, GATEWAY, utc_now())  # and the access file is not told
    running = start_mosquitto(fleet.broker, "", fleet.config.broker.port)
    try:
        report = examined(write_job(tmp_path, site="plant", more='fleet = "fleet"\n'))
    finally:
        running.stop()
    assert written(report) == ["fail", "fail", "fail"]
    assert "Not authorized" in report.all("may write")[0]["value"]
    report.says("may write", "fail", "all/round", "let the aggregator read")
    report.says("access rules", "warn", "is not what", "fedsparse identity crl")


@pytest.mark.usefixtures("broker")
def test_a_running_aggregator_is_not_thrown_off(fleet: Fleet, tmp_path: Path) -> None:
    job = write_job(tmp_path, site="plant", more='fleet = "fleet"\n')
    (tmp_path / "job").mkdir()
    transport = as_role(fleet, GATEWAY, "gateway/plant/digits")
    transport.start()
    with (tmp_path / "job" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = examined(job)
    handle = transport.publish("fl/v1/plant/all/round", b"")
    while (event := transport.receive(20.0)) is not None:
        assert not isinstance(event, Disconnected)
        if isinstance(event, Published) and event.handle == handle:
            break
    transport.close()
    assert event is not None
    report.says("mqtt", "ok", "version 5")  # in the doctor's own name
    assert written(report) == []


@pytest.mark.usefixtures("broker")
def test_devices_that_are_online_are_counted(fleet: Fleet) -> None:
    key_file = fleet.folder / "cam.pem"
    key = Ed25519PrivateKey.generate()
    certificate = fleet.authority.issue_device("cam-01", key.public_key(), utc_now())
    key_file.touch(mode=0o600)
    key_file.write_bytes(pem_of(certificate) + key_pem(key))
    tls = TlsConfig(ca=fleet.broker.authority, certificate=key_file, key=key_file)
    port = fleet.config.broker.port
    device = MqttTransport(BrokerConfig(host="localhost", port=port, tls=tls), client_id="x")
    device.start()
    status = Status(device="cam-01", online=True, board="b", version="1", session="s")
    device.publish("fl/v1/plant/up/cam-01/status", encode_message(status), retain=True)
    while not isinstance(event := device.receive(20.0), Published):
        assert isinstance(event, Connected)
    examined(fleet.folder).says("devices", "ok", "1 have come so far, 1 online")
    device.close()


def test_a_broker_that_does_not_run_is_told(fleet: Fleet) -> None:
    report = examined(fleet.folder)
    report.says("broker", "warn", "does not run", "fedsparse broker --fleet")
    report.says("port", "fail", "refused", "see that the broker runs")
    assert report.code == 2


def test_a_doctor_without_a_certificate_is_told(fleet: Fleet) -> None:
    fleet.role_file(DOCTOR).unlink()
    report = examined(fleet.folder)
    assert "fedsparse identity issue doctor" in report.all("doctor")[0]["fix"]
    assert report.all("port") == []


@pytest.mark.parametrize(
    ("age", "verdict", "said"),
    [(8, "warn", "the broker refuses everybody"), (15, "fail", "past")],
)
def test_a_list_of_revoked_certificates_that_runs_out_is_told(
    fleet: Fleet, age: int, verdict: str, said: str
) -> None:
    then = utc_now() - timedelta(days=age)
    old = crl.build_list(fleet.authority, (), number=1, begins=then, now=then)
    fleet.broker.crl.write_bytes(old.public_bytes(publishing.Encoding.PEM))
    examined(fleet.folder).says("revocation", verdict, said, "fedsparse identity crl")
    fleet.broker.crl.unlink()
    examined(fleet.folder).says("revocation", "fail", "no list", "fedsparse identity crl")


def test_a_broker_certificate_that_is_damaged_is_told(fleet: Fleet) -> None:
    fleet.broker.identity.write_text("nothing")
    report = examined(fleet.folder)
    report.says("broker file", "fail", "not a certificate", "fedsparse identity renew-broker")


def test_an_authority_that_is_open_to_others_is_told(fleet: Fleet) -> None:
    (fleet.folder / "authority" / "ca.key").chmod(0o644)
    report = examined(fleet.folder)
    report.says("fleet", "fail", "others can read this key: chmod 600")
    assert len(report.all("store")) == 0


def test_a_store_of_a_fleet_that_is_gone_is_told_and_not_made_anew(fleet: Fleet) -> None:
    fleet.close()
    for path in fleet.folder.glob("fleet.db*"):
        path.unlink()
    report = examined(fleet.folder)
    report.says("store", "fail", "it is gone, and with it who is in the fleet", "restore it")
    assert not (fleet.folder / "fleet.db").exists()


def test_a_configuration_made_by_hand_is_told(fleet: Fleet) -> None:
    text = fleet.broker.conf.read_text().replace("max_packet_size 2000000", "max_packet_size 9")
    fleet.broker.conf.write_text(text)
    examined(fleet.folder).says("access rules", "warn", "is not what", "fedsparse identity crl")
