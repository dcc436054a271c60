"""Who is let in at all: what an attacker may bring instead of a certificate that is good."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from fleet_world import JOB, SITE, Client, World

from aggregator.identity.authority import Authority, pem_of
from aggregator.identity.keys import key_pem, new_service_key
from aggregator.identity.moment import utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.visit import Pass, RefusedError, Visit, context_for
from fedsparse.errors import TransportError

MINE = f"fl/v1/{SITE}/up/cam-01/message"
DAY = timedelta(days=1)


@pytest.fixture(scope="module", params=["started", "told to read its files again"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mosquitto: str
) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("fleet"))
    world.refresh()
    world.start()
    if request.param != "started":
        world.tell()
    yield world
    world.close()


def let_in(world: World, shown: Pass) -> bool:
    try:
        with world.client(shown):
            return True
    except RefusedError:
        return False


def test_a_certificate_of_the_fleets_authority_is_let_in(running: World) -> None:
    assert let_in(running, running.device("cam-01"))
    assert let_in(running, running.role(Role(duty=Duty.GATEWAY, job=JOB)))


def test_a_certificate_that_signed_itself_is_refused(running: World) -> None:
    key, now = Ed25519PrivateKey.generate(), utc_now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cam-01")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .sign(key, None)
    )
    assert not let_in(running, Pass(certificate=certificate, key=key))


def test_a_certificate_of_another_fleets_authority_is_refused(
    running: World, tmp_path: Path
) -> None:
    other = Authority.create(tmp_path, SITE, utc_now())
    assert not let_in(running, running.device("cam-01", authority=other))


def test_a_certificate_that_a_device_signed_with_its_own_is_refused(running: World) -> None:
    """A device's certificate signs no others, not even with the authority's behind it."""
    device, key, now = running.device("cam-01"), Ed25519PrivateKey.generate(), utc_now()
    assert isinstance(device.key, Ed25519PrivateKey)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"_gateway.{JOB}")]))
        .issuer_name(device.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .sign(device.key, None)
    )
    context = context_for(running.fleet.authority, Pass(certificate=certificate, key=key))
    context.load_verify_locations(cadata=pem_of(device.certificate).decode())  # it is sent along
    with pytest.raises(RefusedError), Visit(running.address, context):
        pass


def test_a_certificate_whose_time_is_over_or_has_not_come_is_refused(running: World) -> None:
    for when in (utc_now() - 400 * DAY, utc_now() + 2 * DAY):
        key = Ed25519PrivateKey.generate()
        issued = running.fleet.authority.issue_device("cam-01", key.public_key(), when)
        assert not let_in(running, Pass(certificate=issued, key=key))


def test_the_brokers_own_certificate_is_not_one_of_a_client(running: World) -> None:
    key = new_service_key()
    hosts = ("localhost",)
    issued = running.fleet.authority.issue_broker(hosts, key.public_key(), utc_now())
    assert not let_in(running, Pass(certificate=issued, key=key))


def test_a_devices_certificate_is_not_one_of_a_broker(running: World, tmp_path: Path) -> None:
    """Whoever steals a device cannot pass for the broker towards the others."""
    stolen = running.device("localhost")
    (tmp_path / "stolen.pem").write_bytes(pem_of(stolen.certificate) + key_pem(stolen.key))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "stolen.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        impostor = threading.Thread(target=greet, args=(listener, server))
        impostor.start()
        context = context_for(running.fleet.authority, running.device("cam-01"))
        with pytest.raises(TransportError, match="not the fleet's broker: unsuitable certificate"):
            Visit(listener.getsockname(), context)
        impostor.join()


def greet(listener: socket.socket, server: ssl.SSLContext) -> None:
    link, _ = listener.accept()
    with link, contextlib.suppress(OSError):
        server.wrap_socket(link, server_side=True).close()


def test_a_broker_under_another_name_is_not_the_fleets(running: World) -> None:
    context = context_for(running.fleet.authority, running.device("cam-01"))
    with pytest.raises(TransportError, match="not the fleet's broker: Hostname mismatch"):
        Visit(running.address, context, name="elsewhere.example")


def test_nobody_without_a_certificate_is_let_in(running: World) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=running.fleet.authority.certificate_pem.decode())
    with pytest.raises(RefusedError), Visit(running.address, context):
        pass


def test_plain_text_gets_no_answer(running: World) -> None:
    hello = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07visitor"
    with socket.create_connection(running.address, timeout=10) as link:
        link.sendall(hello)
        try:
            answer = link.recv(100)
        except ConnectionResetError:
            answer = b""
    assert answer[:1] != b"\x20"  # at most an alert of TLS
    with running.client(running.device("cam-01")) as client:  # and the broker goes on
        client.publish(MINE, b"hello")


def test_a_connection_is_not_resumed_without_its_certificate(running: World) -> None:
    context = context_for(running.fleet.authority, running.device("cam-01"))
    with Client(running.address, context) as first:
        first.subscribe("settle")
        session = first._link.session
    plain = socket.create_connection(running.address, timeout=10)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as second:
        assert second.session_reused is False


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
def test_versions_of_tls_that_resume_without_a_ticket_are_refused(
    running: World, version: ssl.TLSVersion
) -> None:
    context = context_for(running.fleet.authority, running.device("cam-01"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises(RefusedError, match=r"(?i)protocol.version"):
        Visit(running.address, context)
