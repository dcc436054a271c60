"""Somebody on the way between a device and its gateway, who keeps all bytes that pass.

With a certificate and its key he ends TLS and starts it anew, and so sees what a broker would;
without, he sees what everybody does.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path


class Relay:
    """Listens on a port of its own; `seen` is everything that passed, both ways.

    Args:
        target: port on this machine.
        identity: PEM file with the certificate and key to show; None passes TLS on untouched.
    """

    def __init__(self, target: int, identity: Path | None = None) -> None:
        self.seen = b""
        self._target = target
        self._shown: ssl.SSLContext | None = None
        if identity is not None:
            self._shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._shown.load_cert_chain(identity)
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._start(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in (*self._ends, self._listener):
            end.close()

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        self._ends.append(near)
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends.append(far)
            if self._shown is not None:
                near = self._shown.wrap_socket(near, server_side=True)
                blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
                far = blind.wrap_socket(far)
                self._ends += [near, far]
        except OSError:  # the device does not trust what it is shown
            with suppress(OSError):
                near.close()
            return
        self._start(self._pass, near, far)
        self._pass(far, near)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while data := source.recv(65536):
                with self._lock:
                    self.seen += data
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
