"""What a device's doctor says of a real broker, and that it disturbs nobody there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from certificates import DAY, Authority, Pair, now
from device_world import Device, Report, examined
from real_mosquitto import Mosquitto, tls_lines

from edge_client.lock import alone
from fedsparse.transport.base import Connected, Disconnected, Event, Published, Received
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.mqtt import MqttTransport

pytestmark = pytest.mark.usefixtures("mosquitto")
BASE = "fl/v1/lab"
ALL = f"pattern write {BASE}/up/%u/#\npattern read {BASE}/down/%u/#\npattern read {BASE}/all/#\n"
CLIENT_ID = "device/lab/pi"


class Site:
    """Brokers of one authority, and the device `pi`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.pi = self.authority.sign("pi")
        self.brokers: list[Mosquitto] = []

    def broker(self, lines: str = "", server: Pair | None = None, crl: Path | None = None) -> int:
        """A broker with TLS; its port."""
        server = server or self.authority.sign("broker", "127.0.0.1")
        return self.start(f"{tls_lines(self.authority.ca, server, crl=crl)}\n{lines}")

    def start(self, lines: str) -> int:
        self.brokers.append(Mosquitto(self.folder / f"broker-{len(self.brokers)}", lines))
        return self.brokers[-1].port

    def device(
        self, port: int, pair: Pair | None = None, *, ca: Path | None = None, protocol: str = "auto"
    ) -> Device:
        pair = pair or self.pi
        tls = TlsConfig(ca=ca or self.authority.ca, certificate=pair.certificate, key=pair.key)
        return Device(self.folder, BrokerConfig(port=port, tls=tls, protocol=protocol))

    def acl(self, text: str) -> str:
        path = self.folder / f"acl-{len(self.brokers)}"
        path.write_text(text)
        path.chmod(0o600)
        return f"acl_file {path}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for broker in made.brokers:
        broker.stop()


Capture = pytest.CaptureFixture[str]
Kind = TypeVar("Kind", bound=Event)


def written(report: Report) -> list[str]:
    return [one["verdict"] for one in report.all("may write")]


def test_a_device_that_is_well_is_told_so(site: Site, capsys: Capture) -> None:
    year = site.authority.sign("broker", "127.0.0.1", ends=now() + 365 * DAY)
    lines = site.acl(ALL) + "\nmax_packet_size 100000\nmax_inflight_messages 7"
    month = site.authority.sign("pi", ends=now() + 90 * DAY)
    device = site.device(site.broker(lines, year), month)
    device.store.mkdir()
    report = examined(device, capsys)
    assert [one for one in report.checks if one["fix"]] == []
    assert report.code == 0
    report.says("agent", "ok", "free")
    report.says("tls", "ok", "TLSv1.3")
    report.says("broker dates", "ok", "days left")
    report.says("mqtt", "ok", "version 5, no session of before")
    report.says("packet limit", "ok", "97 KiB")
    report.says("in flight", "ok", "7 payloads")
    report.says("broker", "ok", "does not tell")  # the access file keeps it back
    assert written(report) == ["ok", "ok", "ok"]
    assert all("not verifiable" in one["value"] for one in report.all("may read"))


def test_a_broker_of_another_authority_is_told(site: Site, tmp_path: Path, capsys: Capture) -> None:
    other = Authority(tmp_path / "other")
    report = examined(site.device(site.broker(), ca=other.ca), capsys)
    report.says("tls", "fail", "not signed by the authority", "copy the authority's certificate")
    report.says("mqtt", "warn", "not tried", "mend")


def test_a_broker_of_another_name_is_told(site: Site, capsys: Capture) -> None:
    port = site.broker(server=site.authority.sign("broker", "gateway.example"))
    examined(site.device(port), capsys).says("tls", "fail", "not for the name", "set `host`")


def test_an_expired_broker_is_told(site: Site, capsys: Capture) -> None:
    old = site.authority.sign("broker", "127.0.0.1", begins=now() - 3 * DAY, ends=now() - DAY)
    report = examined(site.device(site.broker(server=old)), capsys)
    report.says("tls", "fail", "has expired", "have it renewed on the gateway")


def test_a_broker_that_soon_expires_is_told(site: Site, capsys: Capture) -> None:
    begun = now() - 30 * DAY
    soon = site.authority.sign("broker", "127.0.0.1", begins=begun, ends=now() + DAY)
    report = examined(site.device(site.broker(server=soon)), capsys)
    report.says("broker dates", "warn", "left", "fedsparse identity renew-broker")


def test_a_revoked_certificate_is_told_though_an_agent_runs(site: Site, capsys: Capture) -> None:
    device = site.device(site.broker(crl=site.authority.revoke(site.pi)))
    with alone(device.store):
        report = examined(device, capsys)
    report.says("agent", "ok", "runs")
    report.says("tls", "fail", "the broker refuses our certificate", "it is revoked")


def test_a_certificate_of_its_own_that_has_expired_is_told(site: Site, capsys: Capture) -> None:
    old = site.authority.sign("pi", begins=now() - 3 * DAY, ends=now() - DAY)
    report = examined(site.device(site.broker(), old), capsys)
    report.says("certificate", "fail", "expired on", "edge-client renew")


def test_a_key_that_others_may_read_is_told(site: Site, capsys: Capture) -> None:
    site.pi.key.chmod(0o644)
    examined(site.device(site.broker()), capsys).says("tls", "fail", "others may read", "chmod 600")


def test_a_plain_port_is_told(site: Site, capsys: Capture) -> None:
    report = examined(site.device(site.start("")), capsys)
    report.says("tls", "fail", "does not speak TLS", "TLS has 8883 as a rule")


def test_a_topic_that_may_not_be_written_is_told(site: Site, capsys: Capture) -> None:
    rules = f"pattern write {BASE}/up/%u/status\n"
    report = examined(site.device(site.broker(site.acl(rules))), capsys)
    assert written(report) == ["ok", "fail", "fail"]
    refused = report.all("may write")[1]
    assert refused["value"] == f"{BASE}/up/pi/message: Not authorized"
    assert f"let pi write `{BASE}/up/pi/#`" in refused["fix"]


def test_permission_is_not_verifiable_before_mqtt_5(site: Site, capsys: Capture) -> None:
    port = site.broker(site.acl(f"topic read {BASE}/x\n"))
    report = examined(site.device(port, protocol="3.1.1"), capsys)
    report.says("mqtt", "ok", "version 3.1.1")
    assert written(report) == ["ok", "ok", "ok"]
    assert all("not verifiable" in one["value"] for one in report.all("may write"))
    report.says("packet limit", "ok", "names none")


def test_what_comes_proves_that_it_may_be_read_and_the_version_is_told(
    site: Site, capsys: Capture
) -> None:
    port = site.start("")
    gateway = client(port, "gateway")
    gateway.publish(f"{BASE}/all/round", b"an offer", retain=True)
    settle(gateway)
    report = examined(Device(site.folder, BrokerConfig(port=port)), capsys)
    values = [one["value"] for one in report.all("may read")]
    assert values[2] == f"{BASE}/all/round"
    assert "not verifiable" in values[0]
    report.says("broker", "ok", "mosquitto version 2")
    report.says("tls", "ok", "none")


def test_a_session_that_waits_for_its_agent_loses_nothing(site: Site, capsys: Capture) -> None:
    port = site.start("")
    agent = client(port, CLIENT_ID, f"{BASE}/down/pi/message")
    settle(agent)
    agent.close()
    gateway = client(port, "gateway")
    gateway.publish(f"{BASE}/down/pi/message", b"a task")
    settle(gateway)
    report = examined(Device(site.folder, BrokerConfig(port=port)), capsys)
    report.says("mqtt", "ok", "session kept")
    assert report.all("may read")[0]["value"] == f"{BASE}/down/pi/message"
    assert report.all("broker") == []
    again = client(port, CLIENT_ID)
    assert event(again, Connected).resumed
    assert event(again, Received).payload == b"a task"
    again.close()


def test_no_session_is_left_where_there_was_none(site: Site, capsys: Capture) -> None:
    port = site.start("")
    examined(Device(site.folder, BrokerConfig(port=port)), capsys)
    agent = client(port, CLIENT_ID)
    assert not event(agent, Connected).resumed
    agent.close()


def test_a_running_agent_is_not_thrown_off(site: Site, capsys: Capture) -> None:
    port = site.start("")
    device = Device(site.folder, BrokerConfig(port=port))
    with alone(device.store):
        agent = client(port, CLIENT_ID)
        event(agent, Connected)
        report = examined(device, capsys)
        settle(agent)  # fails where it was thrown off
    agent.close()
    report.says("agent", "ok", "runs: the broker is not spoken to in its name")
    report.says("port", "ok", "accepts")
    report.says("mqtt", "ok", "not tried: an agent runs")
    assert report.all("may write") == []


def client(port: int, name: str, *filters: str) -> MqttTransport:
    made = MqttTransport(BrokerConfig(port=port), client_id=name)
    for one in filters:
        made.subscribe(one)
    made.start()
    return made


def event(transport: MqttTransport, kind: type[Kind]) -> Kind:
    while True:
        found = transport.receive(20.0)
        assert found is not None
        assert not isinstance(found, Disconnected)
        if isinstance(found, kind):
            return found


def settle(transport: MqttTransport) -> None:
    """Return when the broker has done with everything that was said before."""
    handle = transport.publish("settle", b"")
    while event(transport, Published).handle != handle:
        pass
