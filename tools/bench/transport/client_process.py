"""One process of a load test: some hundred devices, each with a connection of its own.

    python -m tools.bench.transport.client_process swarm.json

It is told what to do by lines on stdin and answers by lines on stdout, in JSON. Updates are made
while others still get their tasks, and go out together when the word comes; receipts are decoded
when all have come. So what lies between the two is the work of broker and aggregator, and of the
clients only their sockets.

`{"send": N}` sends the updates of round N, `{"again": N}` those without a receipt once more,
`{"end": true}` says goodbye. Answers: `online`, `held` (a round), `done` (a round, with the time of
its last receipt).
"""

from __future__ import annotations

import json
import resource
import selectors
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedsparse.wire.headers import decode_message
from fedsparse.wire.messages import Receipt
from tools.bench.transport.connection import Connection, Identity
from tools.bench.transport.load_job import LoadClient
from tools.bench.transport.swarm_client import SwarmClient

IN_HANDSHAKE: Final = 20  # so many connect before what came for the others is read


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmConfig:
    """What one process is.

    Attributes:
        host: of the broker.
        port, tls_port: of the plain listener and of the one with TLS.
        first, count: the numbers of its clients.
        tls: so many of them use TLS, the first ones.
        certificates: folder of `ca.pem`, and of `<name>.pem` and `.key` for each client.
        journal: the file of its receipts.
        models: folder of the values that came with the tasks of its first client.
    """

    host: str
    port: int
    tls_port: int
    first: int
    count: int
    tls: int
    certificates: Path
    journal: Path
    models: Path

    @classmethod
    def read(cls, path: Path) -> SwarmConfig:
        """From JSON."""
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name in ("certificates", "journal", "models"):
            fields[name] = Path(fields[name])
        return cls(**fields)


class Swarm:
    """All clients of this process.

    Args:
        config: which ones, and where the broker is.
    """

    def __init__(self, config: SwarmConfig) -> None:
        self._config = config
        self._selector = selectors.DefaultSelector()
        self._clients: list[SwarmClient] = []
        self._online = self._held = self._received = 0
        self._ended = False
        self._journal = config.journal.open("a", encoding="utf-8")

    def run(self) -> None:
        """Connect all, then do as stdin says until it ends."""
        for number in range(self._config.first, self._config.first + self._config.count):
            self._connect(LoadClient(number))
            if number % IN_HANDSHAKE == 0:
                self._turn(0.0)
        self._selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        while not self._ended:
            self._turn(1.0)
        for client in self._clients:
            client.say_goodbye()
            client.connection.close()
        self._journal.close()

    def _connect(self, client: LoadClient) -> None:
        config = self._config
        identity = None
        if client.number - config.first < config.tls:
            folder = config.certificates
            identity = Identity(
                ca=folder / "ca.pem",
                certificate=folder / f"{client.name}.pem",
                key=folder / f"{client.name}.key",
            )
        connection = Connection(config.host, config.tls_port if identity else config.port, identity)
        one = SwarmClient(
            client, connection,
            on_online=self._on_online, on_held=self._on_held, on_receipt=self._on_receipt,
        )  # fmt: skip
        self._clients.append(one)
        self._selector.register(connection.socket, selectors.EVENT_READ, one)

    def _turn(self, timeout_s: float) -> None:
        for key, events in self._selector.select(timeout_s):
            if key.data is None:
                self._obey(sys.stdin.buffer.readline())
                continue
            client: SwarmClient = key.data
            if events & selectors.EVENT_READ:
                for packet in client.connection.receive():
                    client.take(packet)
            if events & selectors.EVENT_WRITE:
                client.connection.flush()
            self._watch(client)

    def _watch(self, client: SwarmClient) -> None:
        """Have the selector tell when a socket takes more, while something waits for that."""
        wanted = selectors.EVENT_READ
        if client.connection.has_to_send:
            wanted |= selectors.EVENT_WRITE
        key = self._selector.get_key(client.connection.socket)
        if key.events != wanted:
            self._selector.modify(client.connection.socket, wanted, client)

    def _obey(self, line: bytes) -> None:
        if not line:
            self._ended = True
            return
        word = json.loads(line)
        self._ended = "end" in word
        for client in self._clients:
            work = client.work
            if work is not None and (
                word.get("send") == work.round_id
                or (word.get("again") == work.round_id and not work.receipts)
            ):
                client.send_update()
                self._watch(client)

    def _on_online(self) -> None:
        self._online += 1
        if self._online == len(self._clients) == self._config.count:
            _say(online=self._online)

    def _on_held(self, client: SwarmClient) -> None:
        work = client.work
        if work is not None and client is self._clients[0]:
            (self._config.models / f"{work.round_id}.f32").write_bytes(client.values)
        self._held += 1
        if work is not None and self._held == self._config.count:
            self._held = self._received = 0
            _say(held=work.round_id, stage=work.stage.value)

    def _on_receipt(self) -> None:
        self._received += 1
        if self._received == self._config.count:
            _say(**self._note_receipts())

    def _note_receipts(self) -> dict[str, object]:
        """Write down what came; the round, and when its last first receipt was there."""
        round_id, last_s = 0, 0.0
        for client in self._clients:
            work = client.work
            if work is None:
                continue
            round_id, last_s = work.round_id, max(last_s, work.receipts[0][1])
            for payload, _ in work.receipts:
                receipt, _ = decode_message(payload)
                if isinstance(receipt, Receipt):
                    entry = {
                        "device": client.client.name,
                        "round": receipt.round_id,
                        "verdict": receipt.verdict.value,
                        "ours": bytes.fromhex(receipt.update_digest) == work.digest,
                    }
                    self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()
        return {"done": round_id, "last_s": last_s}


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps({**what, "now_s": time.monotonic()}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the clients that the file of the first argument names."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Swarm(SwarmConfig.read(Path(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
