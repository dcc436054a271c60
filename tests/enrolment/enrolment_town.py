"""A fleet whose enrolment is open: a real broker, the service beside it, and devices that come."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from aggregator.events import EVENTS, EventLog
from aggregator.identity.fleet import Fleet
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.service import IdentityService, open_service
from aggregator.identity.tokens import make_code
from aggregator.identity.upkeep import keep_fresh
from edge_client.config import ClientConfig
from edge_client.identity.enrol import Settled, enrol
from edge_client.identity.errand import Desk
from edge_client.identity.folder import IdentityFolder
from fedsparse.config import load
from fedsparse.wire.enrolment_code import Code, Fingerprint, parse_fingerprint
from tools.broker import RunningBroker, free_port
from tools.identity.mosquitto import start_mosquitto

SITE = "plant"
CLIENT = """\
device = "{device}"
site = "{site}"
store = "store"

[data]
path = "data.npz"

[broker]
host = "localhost"
port = {port}

[broker.tls]
ca = "identity/ca.pem"
certificate = "identity/device.pem"
key = "identity/device.pem"
"""


class Town:
    """A fleet in a folder; its enrolment broker runs, its service when it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = tuple(free_port("127.0.0.1", 0) for _ in range(3))
        self.fleet = Fleet.create(
            folder / "fleet",
            SITE,
            ["localhost"],
            utc_now(),
            ports=ports,  # type: ignore[arg-type]
        )
        keep_fresh(self.fleet, utc_now())
        self.broker: RunningBroker | None = None
        self.start_broker()

    def start_broker(self) -> None:
        config = self.fleet.config.enrolment
        self.broker = start_mosquitto(self.fleet.enrolment, config.address, config.port)

    def stop_broker(self) -> None:
        if self.broker is not None:
            self.broker.stop()
            self.broker = None

    def close(self) -> None:
        self.stop_broker()
        self.fleet.close()

    @property
    def desk(self) -> Desk:
        return Desk(host="localhost", port=self.fleet.config.enrolment.port)

    @property
    def trust(self) -> Fingerprint:
        return parse_fingerprint(self.fleet.authority.fingerprint)

    @contextmanager
    def open(self) -> Iterator[None]:
        """The service runs, as its own process would; what ends it fails the test."""
        stop, ready, failures = threading.Event(), threading.Event(), []

        def serve() -> None:
            try:
                with Fleet.open(self.fleet.folder) as fleet, self._diary() as diary:
                    service: IdentityService = open_service(fleet, diary)
                    service.start()
                    try:
                        while not stop.is_set():
                            service.step(0.05)
                            ready.set()
                    finally:
                        service.close()
            except BaseException as error:  # noqa: BLE001 (raised where the test is)
                failures.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=serve, name="identity service")
        thread.start()
        ready.wait(30)
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            if failures:
                raise failures[0]

    def _diary(self) -> EventLog:
        return EventLog(self.fleet.folder / EVENTS)

    def events(self, name: str) -> list[dict[str, Any]]:
        path = self.fleet.folder / EVENTS
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        return [entry for entry in entries if entry["event"] == name]

    @property
    def reasons(self) -> list[str]:
        """Of all refusals."""
        return [entry["reason"] for entry in self.events("enrolment_refused")]

    def code(self, device: str = "cam-01", hours: float = 24) -> Code:
        with self.fleet.store.writing() as db:
            now_ms, life = to_ms(utc_now()), timedelta(hours=hours)
            return make_code(db, site=SITE, device=device, now_ms=now_ms, life=life)

    def client(self, device: str = "cam-01", folder: str = "") -> ClientConfig:
        """The configuration of a device in a folder of its own."""
        home = self.folder / (folder or device)
        home.mkdir(exist_ok=True)
        path = home / "client.toml"
        port = self.fleet.config.broker.port
        path.write_text(CLIENT.format(device=device, site=SITE, port=port))
        return load(ClientConfig, path)

    def enrol(
        self,
        code: Code,
        config: ClientConfig | None = None,
        *,
        desk: Desk | None = None,
        trust: Fingerprint | None = None,
        said: list[str] | None = None,
    ) -> Settled:
        return enrol(
            config or self.client(),
            desk or self.desk,
            code,
            trust or self.trust,
            say=(said if said is not None else []).append,
        )


def files_of(config: ClientConfig) -> IdentityFolder:
    return IdentityFolder.of(config)
