"""A real mosquitto with a configuration of the test's own."""

from __future__ import annotations

import getpass
import socket
import subprocess
import time
from pathlib import Path

from certificates import Pair

from tools.broker import find_mosquitto

PATIENCE_S = 20.0
ATTEMPTS = 5


def tls_lines(ca: Path, pair: Pair, *, crl: Path | None = None, clients: bool = True) -> str:
    """Of a listener that wants every client's certificate."""
    lines = [f"cafile {ca}", f"certfile {pair.certificate}", f"keyfile {pair.key}"]
    if clients:
        lines += ["require_certificate true", "use_identity_as_username true"]
    if crl is not None:
        lines.append(f"crlfile {crl}")
    return "\n".join(lines)


class Mosquitto:
    """A broker on a free port of this machine.

    Args:
        folder: for its files.
        listener: more lines for its listener.
    """

    def __init__(self, folder: Path, listener: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._listener = folder, listener
        for _ in range(ATTEMPTS):  # another process may take a port before mosquitto does
            self.port = _free_port()
            if self._launch():
                return
        raise AssertionError((folder / "mosquitto.log").read_text())

    def start(self) -> None:
        """Again, at the port that it has; sessions and retained payloads are those of before."""
        assert self._launch()

    def _launch(self) -> bool:
        program = find_mosquitto()
        assert program is not None
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\n{self._listener}\n"
            f"user {getpass.getuser()}\npersistence true\npersistence_location {self.folder}/\n"
            f"max_queued_messages 100000\nlog_dest file {self.folder}/mosquitto.log\n"
        )
        self.process = subprocess.Popen(
            [program, "-c", str(configuration)], stderr=subprocess.DEVNULL
        )
        end_s = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and not _accepts(self.port):
            assert time.monotonic() < end_s
            time.sleep(0.01)
        return self.process.poll() is None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
