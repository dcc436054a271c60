"""From a broker's name to a socket: look-up, connection, handshake.

Each of them may hang, and is given up from another thread.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fedsparse.transport.config import BrokerConfig

if TYPE_CHECKING:
    import ssl

HANDSHAKE: Final = "the TLS handshake"


class Dial:
    """One attempt; `open` blocks, and another thread may give it up.

    Args:
        broker: where it is.
        tls: what secures the connection; None where nothing does.
        timeout_s: for a connection to one address, and for every answer in a handshake.

    Attributes:
        stage: what it is at, for people.
        beat_s: when that began (monotonic).
    """

    def __init__(self, broker: BrokerConfig, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        self._broker, self._tls, self._timeout_s = broker, tls, timeout_s
        self._socket: socket.socket | None = None
        self._given_up = False
        self._at("beginning")

    def open(self) -> socket.socket:
        """A socket that is connected, and secure where that is wanted.

        Raises:
            OSError: there is no connection, it is not secure, or it was given up.
        """
        self._socket = self._connect()
        try:
            if self._tls is not None:
                self._socket = self._secure(self._socket, self._tls)
            self._at("waiting for the broker's answer")
        except BaseException:
            self._socket.close()
            raise
        return self._socket

    def give_up(self) -> None:
        """Break off; whoever waits for the socket comes free."""
        self._given_up = True
        if self._socket is not None:
            with suppress(OSError):  # it was closed already
                self._socket.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> socket.socket:
        """The first address that answers."""
        host, port = self._broker.host, self._broker.port
        self._at(f"looking up the name {host}")
        failure: OSError = OSError(f"{host} has no address")
        for family, kind, number, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            self._at(f"connecting to {address[0]}")
            tcp = socket.socket(family, kind, number)
            try:
                tcp.settimeout(self._timeout_s)
                tcp.connect(address)
            except OSError as error:
                tcp.close()
                failure = error
            else:
                return tcp
        raise failure

    def _secure(self, tcp: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        self._at(HANDSHAKE)
        host = self._broker.host
        secured = tls.wrap_socket(tcp, server_hostname=host, do_handshake_on_connect=False)
        self._socket = secured
        secured.settimeout(self._timeout_s)
        secured.do_handshake()
        return secured

    def _at(self, stage: str) -> None:
        """Begin another stage; one that was given up must not connect any more."""
        if self._given_up:
            raise OSError("it was given up")
        self.stage = stage
        self.beat_s = time.monotonic()
