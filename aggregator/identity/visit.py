"""One short connection to a fleet's broker, by hand: in, say something, out.

Whoever changes who may come in has to know whether the broker has taken that in, and a certificate
that is refused is an answer here, not a fault to be tried again: for that a client that keeps a
connection alive is the wrong tool.

Source: MQTT 3.1.1, sections 3.1 to 3.4 and 3.14.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from cryptography import x509

from aggregator.identity.authority import Authority, pem_of
from aggregator.identity.keys import PrivateKey, key_pem
from fedsparse.errors import TransportError

PATIENCE_S: Final = 10.0
CONNECT, CONNACK, PUBLISH, PUBACK, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0xE0
QOS_1, RETAIN = 0x02, 0x01
CLEAN: Final = 0x02
KEEPALIVE_S: Final = 60


class RefusedError(TransportError):
    """The broker is there, and does not let this certificate in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """With what somebody comes to the broker.

    Attributes:
        certificate: its name is the visitor's.
        key: of that certificate.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)


def context_for(authority: Authority, shown: Pass) -> ssl.SSLContext:
    """TLS to a broker of this authority, as whoever the pass names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    with tempfile.TemporaryDirectory(prefix="fedsparse-") as folder:  # its owner's alone
        path = Path(folder) / "pass.pem"
        path.write_bytes(pem_of(shown.certificate) + key_pem(shown.key))
        context.load_cert_chain(path)
    return context


class Visit:
    """A connection; entering it takes the session of that name over and empties it.

    Raises:
        RefusedError: the broker does not let this certificate in.
        TransportError: there is no broker of this authority.
    """

    def __init__(
        self, address: tuple[str, int], context: ssl.SSLContext, *, name: str = "localhost"
    ) -> None:
        try:
            plain = socket.create_connection(address, timeout=PATIENCE_S)
        except OSError as error:
            raise TransportError(f"no broker on {address[0]}:{address[1]}: {error}") from error
        try:
            with _explained():
                self._link = context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise

    def __enter__(self) -> Visit:
        try:
            self.connect()
        except BaseException:
            self._link.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._send(DISCONNECT, b"")
        finally:
            self._link.close()

    def connect(
        self, *, client_id: bytes = b"visitor", flags: int = CLEAN, will: bytes = b""
    ) -> None:
        """Introduce oneself, and wait for the welcome.

        Args:
            client_id: the fleet's broker takes the certificate's name instead.
            flags: of the connection.
            will: topic and payload, each with its length, if the flags say that there is one.
        """
        about = b"\x00\x04MQTT\x04" + bytes([flags]) + KEEPALIVE_S.to_bytes(2, "big")
        self._send(CONNECT, about + _text(client_id) + will)
        kind, body = self.packet()
        if kind != CONNACK or body[1:] != b"\x00":
            raise RefusedError(f"the broker's answer to a connection is {body.hex()}")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say something; the broker has it when this returns (which is not: may say it)."""
        first = PUBLISH | QOS_1 | (RETAIN if retain else 0)
        self._send(first, _text(topic.encode()) + b"\x00\x01" + payload)
        while self.packet()[0] != PUBACK:
            pass

    def packet(self) -> tuple[int, bytes]:
        """The next packet: its first byte, and what comes after its length."""
        first = self._receive(1)[0]
        size, shift = 0, 0
        while True:
            digit = self._receive(1)[0]
            size |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return first, self._receive(size)

    def _send(self, first: int, body: bytes) -> None:
        with _explained():
            self._link.sendall(bytes([first]) + _length(len(body)) + body)

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            with _explained():
                more = self._link.recv(size - len(received))
            if not more:
                raise RefusedError("the broker closed the connection")
            received += more
        return received


@contextmanager
def _explained() -> Iterator[None]:
    """What goes wrong on the way, as one of the two things that it can mean."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise TransportError(f"not the fleet's broker: {error.verify_message}") from error
    except TimeoutError as error:
        raise TransportError(f"the broker has said nothing for {PATIENCE_S:g} s") from error
    except OSError as error:  # an alert of TLS, or the connection is cut without one
        raise RefusedError(f"the broker refuses the certificate: {error}") from error


def _text(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _length(size: int) -> bytes:
    digits = bytearray()
    while True:
        size, digit = divmod(size, 128)
        digits.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(digits)
