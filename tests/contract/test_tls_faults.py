"""Every way in which TLS with a real broker fails, and the way out that is told."""

from __future__ import annotations

import dataclasses
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from certificates import DAY, Authority, Pair, now
from cryptography.hazmat.primitives.asymmetric import ed25519
from harness import break_off, next_event, wait_for
from real_mosquitto import Mosquitto, tls_lines

from fedsparse.errors import TransportError
from fedsparse.transport import connection
from fedsparse.transport.base import Connected, Disconnected
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.mqtt import MqttTransport

pytestmark = pytest.mark.usefixtures("mosquitto")
VERSIONS = ["5", "3.1.1"]
NAMES = ["the fleet", "another fleet"]  # OpenSSL notices at different steps


class Fleet:
    """An authority, and what it takes to reach a broker of its."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.pi = self.authority.sign("pi")
        self.brokers: list[Mosquitto] = []

    def broker(self, server: Pair | None = None, *, crl: Path | None = None) -> Mosquitto:
        pair = server or self.authority.sign("broker", "127.0.0.1", "localhost")
        lines = tls_lines(self.authority.ca, pair, crl=crl)
        self.brokers.append(Mosquitto(self.folder / f"broker-{len(self.brokers)}", lines))
        return self.brokers[-1]

    def config(
        self, port: int, pair: Pair | None = None, *, ca: Path | None = None, protocol: str = "auto"
    ) -> BrokerConfig:
        pair = pair or self.pi
        tls = TlsConfig(ca=ca or self.authority.ca, certificate=pair.certificate, key=pair.key)
        return BrokerConfig(port=port, tls=tls, protocol=protocol, keepalive_s=5)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    for broker in made.brokers:
        broker.stop()


def refusal(config: BrokerConfig, timeout_s: float = 10.0) -> str:
    """What a client says that is not let in."""
    transport = MqttTransport(config, client_id="pi", connect_timeout_s=timeout_s)
    with pytest.raises(TransportError) as caught:
        transport.start()
    return str(caught.value)


def connected(config: BrokerConfig, **more: float) -> Connected:
    transport = MqttTransport(config, client_id="pi", **more)  # type: ignore[arg-type]
    transport.start()
    event = next_event(transport, Connected)
    transport.close()
    return event


@pytest.mark.parametrize("protocol", VERSIONS)
def test_the_pair_of_an_ed25519_key_lets_a_device_in(fleet: Fleet, protocol: str) -> None:
    pair = fleet.authority.sign("pi", key=ed25519.Ed25519PrivateKey.generate())
    connected(fleet.config(fleet.broker().port, pair, protocol=protocol))


@pytest.mark.parametrize("name", NAMES)
def test_a_broker_of_another_authority_is_told(fleet: Fleet, tmp_path: Path, name: str) -> None:
    other = Authority(tmp_path / "other", name=name)
    said = refusal(fleet.config(fleet.broker().port, ca=other.ca))
    assert "not signed by the authority in" in said
    assert str(other.ca) in said
    assert "copy the authority's certificate from the gateway again" in said


def test_a_self_signed_broker_is_told(fleet: Fleet) -> None:
    port = fleet.broker(fleet.authority.self_signed("broker", "127.0.0.1")).port
    assert "not signed by the authority in" in refusal(fleet.config(port))


def test_a_broker_of_another_name_is_told(fleet: Fleet) -> None:
    port = fleet.broker(fleet.authority.sign("broker", "gateway.example")).port
    said = refusal(fleet.config(port))
    assert "is not for the name '127.0.0.1': set `host` to a name that it is for" in said
    by_name = dataclasses.replace(fleet.config(fleet.broker().port), host="localhost")
    connected(by_name)


def test_an_expired_broker_is_told(fleet: Fleet) -> None:
    server = fleet.authority.sign("broker", "127.0.0.1", begins=now() - 3 * DAY, ends=now() - DAY)
    said = refusal(fleet.config(fleet.broker(server).port))
    assert "has expired" in said
    assert "have it renewed on the gateway; or set this clock" in said


def test_a_broker_that_is_not_valid_yet_is_told(fleet: Fleet) -> None:
    server = fleet.authority.sign("broker", "127.0.0.1", begins=now() + DAY, ends=now() + 2 * DAY)
    said = refusal(fleet.config(fleet.broker(server).port))
    assert "is not valid yet" in said
    assert "timedatectl set-ntp true" in said


def test_a_clock_that_is_behind_lets_a_device_in(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """The certificate is from tomorrow, and the device knows that today is over."""
    server = fleet.authority.sign("broker", "127.0.0.1", begins=now() + DAY, ends=now() + 2 * DAY)
    config = fleet.config(fleet.broker(server).port)
    with caplog.at_level(logging.WARNING):
        connected(config, clock_floor_s=(now() + timedelta(hours=36)).timestamp())
    assert "clock=behind" in caplog.text


def test_a_clock_that_is_behind_lets_no_stranger_in(fleet: Fleet, tmp_path: Path) -> None:
    floor_s = (now() + DAY).timestamp()
    other = Authority(tmp_path / "other")
    for server in (
        other.sign("broker", "127.0.0.1"),
        fleet.authority.sign("broker", "gateway.example"),
    ):
        transport = MqttTransport(
            fleet.config(fleet.broker(server).port), client_id="pi", clock_floor_s=floor_s
        )
        with pytest.raises(TransportError, match=r"not signed by|not for the name"):
            transport.start()


@pytest.mark.parametrize("protocol", VERSIONS)
def test_a_device_without_a_certificate_is_told(fleet: Fleet, protocol: str) -> None:
    config = BrokerConfig(
        port=fleet.broker().port, tls=TlsConfig(ca=fleet.authority.ca), protocol=protocol
    )
    said = refusal(config)
    assert "the broker asks for a certificate, and [broker.tls] has none: enrol the device" in said


@pytest.mark.parametrize("protocol", VERSIONS)
def test_a_revoked_device_is_told(fleet: Fleet, protocol: str) -> None:
    crl = fleet.authority.revoke(fleet.pi)
    said = refusal(fleet.config(fleet.broker(crl=crl).port, protocol=protocol))
    assert f"the broker refuses our certificate {fleet.pi.certificate}" in said
    assert "it is revoked" in said
    assert "enrol the device again" in said


@pytest.mark.parametrize("protocol", VERSIONS)
def test_an_expired_device_is_told(fleet: Fleet, protocol: str) -> None:
    pair = fleet.authority.sign("pi", begins=now() - 3 * DAY, ends=now() - DAY)
    said = refusal(fleet.config(fleet.broker().port, pair, protocol=protocol))
    assert f"the broker refuses our certificate {pair.certificate} (valid until " in said
    assert "has expired" in said


@pytest.mark.parametrize("protocol", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_device_of_another_fleet_is_told(
    fleet: Fleet, tmp_path: Path, name: str, protocol: str
) -> None:
    pair = Authority(tmp_path / "other", name=name).sign("pi")
    said = refusal(fleet.config(fleet.broker().port, pair, protocol=protocol))
    assert f"the broker refuses our certificate {pair.certificate}" in said
    assert "enrol the device with this fleet" in said


def test_a_refusal_that_comes_before_we_have_said_anything_is_heard(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has closed the connection when we write: what it said is read all the same."""
    gone = threading.Event()
    send = connection._Client._sock_send

    def late(client: connection._Client, data: bytes | bytearray) -> int:
        gone.wait(0.05)  # never set: the broker is faster than that
        return send(client, data)

    monkeypatch.setattr(connection._Client, "_sock_send", late)
    config = fleet.config(fleet.broker(crl=fleet.authority.revoke(fleet.pi)).port)
    for _ in range(8):
        assert "it is revoked" in refusal(config)


def test_a_device_that_signed_its_certificate_itself_is_told(fleet: Fleet) -> None:
    pair = fleet.authority.self_signed("pi")
    said = refusal(fleet.config(fleet.broker().port, pair))
    assert f"the broker refuses our certificate {pair.certificate}" in said
    assert "enrol the device with this fleet" in said


def test_a_plain_client_at_the_port_for_tls_is_told(fleet: Fleet) -> None:
    said = refusal(BrokerConfig(port=fleet.broker().port))
    assert "if this is its port for TLS, set [broker.tls]" in said


def test_a_client_with_tls_at_a_plain_port_is_told(fleet: Fleet, tmp_path: Path) -> None:
    plain = Mosquitto(tmp_path / "plain")
    fleet.brokers.append(plain)
    said = refusal(fleet.config(plain.port))
    assert f"127.0.0.1:{plain.port} does not speak TLS" in said
    assert "correct `port`, or leave out [broker.tls]" in said


def test_a_server_that_says_nothing_to_a_handshake_is_told(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        said = refusal(fleet.config(port), timeout_s=0.3)
    assert "does not answer in TLS: is" in said


def test_a_broker_of_old_tls_is_told(fleet: Fleet) -> None:
    """One that speaks no more than TLS 1.1."""
    server = fleet.authority.sign("broker", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    for end in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match=r"TLSv1_1 is deprecated"):
            setattr(context, end, ssl.TLSVersion.TLSv1_1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=_serve_once, args=(listener, context))
        thread.start()
        said = refusal(fleet.config(port))
        thread.join()
    assert "speaks no TLS of version 1.2 or later: update it" in said


def _serve_once(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection, pytest.raises(OSError, match=r".*"):
        context.wrap_socket(connection, server_side=True)


def test_a_certificate_that_is_renewed_is_shown_at_the_next_connection(fleet: Fleet) -> None:
    """The files are read anew: no restart of the agent."""
    crl = fleet.authority.revoke(fleet.pi)
    broker = fleet.broker()
    config = fleet.config(broker.port)
    transport = MqttTransport(config, client_id="pi", reconnect_s=(0.1, 0.2))
    transport.start()
    next_event(transport, Connected)
    broker.stop()
    broker._listener += f"\ncrlfile {crl}"
    renewed = fleet.authority.sign("pi")
    renewed.key.replace(fleet.pi.key)
    renewed.certificate.replace(fleet.pi.certificate)
    broker.start()
    next_event(transport, Disconnected)
    next_event(transport, Connected)
    transport.close()


def test_why_a_connection_does_not_come_back_is_logged(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    broker = fleet.broker()
    transport = MqttTransport(fleet.config(broker.port), client_id="pi", reconnect_s=(0.1, 0.2))
    with caplog.at_level(logging.INFO):
        transport.start()
        next_event(transport, Connected)
        broker.stop()
        broker._listener += f"\ncrlfile {fleet.authority.revoke(fleet.pi)}"
        broker.start()
        wait_for(lambda: _said(caplog, "is revoked", transport), "the reason")
    transport.close()
    assert "again_in=" in caplog.text


def _said(caplog: pytest.LogCaptureFixture, text: str, transport: MqttTransport) -> bool | None:
    transport.receive(0.1)
    return True if text in caplog.text else None


def test_a_cut_connection_comes_back_over_tls_at_once(fleet: Fleet) -> None:
    transport = MqttTransport(
        fleet.config(fleet.broker().port), client_id="pi", reconnect_s=(0.1, 0.2)
    )
    transport.start()
    next_event(transport, Connected)
    began_s = time.monotonic()
    break_off(transport)
    assert next_event(transport, Disconnected).reason
    next_event(transport, Connected)
    assert time.monotonic() - began_s < 10
    transport.close()
