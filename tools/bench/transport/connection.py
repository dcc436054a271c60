"""One client's connection to the broker: bytes in and out without waiting, with TLS or without."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.bench.transport.packets import Packet, PacketReader

READ_BYTES: Final = 64 * 1024
WAITING: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
HANDSHAKE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """How a client proves who it is: files in PEM."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """With the certificate of the client, and trust in the fleet's own authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Connection:
    """A connection that is open when this returns; the rest of it waits for nothing.

    Args:
        host, port: of the broker.
        identity: for TLS; None is plain.

    Raises:
        OSError: nobody is there, or the two ends do not trust each other.
    """

    def __init__(self, host: str, port: int, identity: Identity | None) -> None:
        plain = socket.create_connection((host, port), timeout=HANDSHAKE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = plain
        if identity is not None:
            self.socket = identity.context().wrap_socket(plain, server_hostname=host)
        self.socket.setblocking(False)
        self._reader = PacketReader()
        self._out = bytearray()

    @property
    def has_to_send(self) -> bool:
        """Whether bytes wait until the socket takes them."""
        return bool(self._out)

    def send(self, data: bytes) -> None:
        """Send, now as far as that goes."""
        self._out += data
        self.flush()

    def flush(self) -> None:
        """Go on with what waits.

        Raises:
            OSError: the connection is gone.
        """
        with suppress(*WAITING):
            while self._out:
                del self._out[: self.socket.send(self._out)]

    def receive(self) -> Iterator[Packet]:
        """What has come.

        Raises:
            ConnectionError: the broker has ended the connection.
        """
        while True:
            try:
                data = self.socket.recv(READ_BYTES)
            except WAITING:
                return
            if not data:
                raise ConnectionResetError("the broker has ended the connection")
            yield from self._reader.feed(data)
            if not isinstance(self.socket, ssl.SSLSocket) and len(data) < READ_BYTES:
                return

    def close(self) -> None:
        """End it."""
        self.socket.close()
