"""mosquitto for a load test: a plain listener, and one that wants a certificate of every client."""

from __future__ import annotations

import getpass
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedsparse.errors import ConfigError, TransportError
from tools.broker import find_mosquitto

HOST: Final = "localhost"
START_S: Final = 20.0
POLL_S: Final = 0.02
DAY: Final = timedelta(days=1)
CA: Final = "ca"
SERVER: Final = "server"
CONFIGURATION: Final = """\
per_listener_settings false
allow_anonymous true
user {user}
persistence true
persistence_location {folder}/
max_inflight_messages {inflight}
max_queued_messages 100000
max_queued_bytes 500000000
log_dest file {folder}/mosquitto.log
listener {port} 127.0.0.1
listener {tls_port} 127.0.0.1
cafile {certificates}/ca.pem
certfile {certificates}/server.pem
keyfile {certificates}/server.key
require_certificate true
use_identity_as_username true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBroker:
    """A running mosquitto and its two ports."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def start_load_broker(folder: Path, certificates: Path, inflight: int) -> LoadBroker:
    """Start it and wait until both listeners answer.

    Args:
        folder: for its state.
        certificates: that `make_certificates` has filled.
        inflight: messages to one client that it has not acknowledged.

    Raises:
        ConfigError: mosquitto is not installed.
        TransportError: it does not start.
    """
    program = find_mosquitto()
    if program is None:
        raise ConfigError("mosquitto is not installed: sudo apt install mosquitto")
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(5):  # another process may take a free port first
        port, tls_port = _free_ports()
        configuration = folder / "mosquitto.conf"
        configuration.write_text(
            CONFIGURATION.format(
                user=getpass.getuser(), folder=folder.resolve(), inflight=inflight, port=port,
                tls_port=tls_port, certificates=certificates.resolve(),
            )
        )  # fmt: skip
        process = subprocess.Popen(  # noqa: S603 (our own command line)
            [program, "-c", str(configuration)], stderr=subprocess.DEVNULL
        )
        broker = LoadBroker(process=process, port=port, tls_port=tls_port)
        if _answers(broker):
            return broker
        broker.stop()
    raise TransportError(f"mosquitto does not start; it says why in {folder}/mosquitto.log")


def make_certificates(folder: Path, names: tuple[str, ...]) -> None:
    """An authority, a certificate of the broker, and one of each client, in PEM.

    Args:
        folder: for `<name>.pem` and `<name>.key`; of the authority, `ca.pem`.
        names: of the clients.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("load test")
    authority = _signed(_builder(name, name, key).add_extension(_IS_CA, critical=True), key)
    (folder / f"{CA}.pem").write_bytes(_pem(authority))
    for one in (SERVER, *names):
        own = ec.generate_private_key(ec.SECP256R1())
        host = x509.SubjectAlternativeName([x509.DNSName(HOST if one == SERVER else one)])
        builder = _builder(_name(one), name, own).add_extension(host, critical=False)
        (folder / f"{one}.pem").write_bytes(_pem(_signed(builder, key)))
        (folder / f"{one}.key").write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (folder / f"{one}.key").chmod(0o600)


_IS_CA: Final = x509.BasicConstraints(ca=True, path_length=0)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(two.getsockname()[1])


def _answers(broker: LoadBroker) -> bool:
    end_s = time.monotonic() + START_S
    while broker.process.poll() is None and time.monotonic() < end_s:
        try:
            for port in (broker.port, broker.tls_port):
                socket.create_connection((HOST, port), timeout=1.0).close()
        except OSError:
            time.sleep(POLL_S)
        else:
            return True
    return False
