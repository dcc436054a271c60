"""A fleet with a real broker, and clients of it that do whatever a test wants."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aggregator.identity.authority import Authority, read_certificate
from aggregator.identity.fleet import Fleet
from aggregator.identity.issuing import note
from aggregator.identity.keys import new_service_key
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.names import Role
from aggregator.identity.upkeep import keep_fresh, renew_broker
from aggregator.identity.visit import (
    CLEAN,
    PUBACK,
    PUBLISH,
    Pass,
    Visit,
    _text,
    context_for,
)
from aggregator.store import devices
from fedsparse.errors import TransportError
from tools.broker import RunningBroker, free_port
from tools.identity.mosquitto import start_mosquitto

SITE = "plant"
JOB = "digits"
SUBSCRIBE, SUBACK = 0x82, 0x90
WILL = 0x04 | 0x08 | 0x20  # a will, with QoS 1, retained


class Client(Visit):
    """A client that notes what it is sent."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.inbox: list[tuple[str, bytes]] = []
        self._read = 0

    def packet(self) -> tuple[int, bytes]:
        first, body = super().packet()
        if first & 0xF0 == PUBLISH:
            size = int.from_bytes(body[:2], "big")
            topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
            if first & 0x06:
                self._send(PUBACK, rest[:2])
                rest = rest[2:]
            self.inbox.append((topic, rest))
        return first, body

    def subscribe(self, *filters: str) -> None:
        """Ask for these; the broker says yes to everything, and has done so when this returns."""
        wanted = b"".join(_text(one.encode()) + b"\x01" for one in filters)
        self._send(SUBSCRIBE, b"\x00\x02" + wanted)
        while self.packet()[0] != SUBACK:
            pass

    def settle(self) -> None:
        """Return when everything has come that the broker sent before now."""
        self.subscribe("settle")

    def read_until(self, topic: str) -> bytes:
        """What comes next on a topic."""
        while True:
            while self._read < len(self.inbox):
                came, payload = self.inbox[self._read]
                self._read += 1
                if came == topic:
                    return payload
            self.packet()

    def is_cut(self) -> bool:
        """Whether the broker ends this connection; fails if it does not within a while."""
        try:
            while True:
                self.packet()
        except TransportError as error:
            return "has said nothing" not in str(error)

    def drop(self) -> None:
        """Be gone without a word."""
        self._link.close()


class World:
    """A fleet, and its broker once it is started."""

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        ports = tuple(free_port("127.0.0.1", 0) for _ in range(3))
        self.fleet = Fleet.create(
            folder,
            SITE,
            ["localhost"],
            now or utc_now(),
            ports=ports,  # type: ignore[arg-type]
        )
        self.broker: RunningBroker | None = None
        self.enrolment: RunningBroker | None = None

    def start(self) -> None:
        config = self.fleet.config.broker
        self.broker = start_mosquitto(self.fleet.broker, config.address, config.port)

    def start_enrolment(self) -> None:
        config = self.fleet.config.enrolment
        self.enrolment = start_mosquitto(self.fleet.enrolment, config.address, config.port)
        # It opens the strangers' port first.
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", config.service_port), timeout=10).close()
                return

    def tell(self) -> None:
        """Have the brokers read their files again; they have done so when this returns."""
        renew_broker(self.fleet, utc_now())
        new = read_certificate(self.fleet.broker.identity)
        ports = [self.fleet.config.broker.port] if self.broker else []
        ports += [self.fleet.config.enrolment.port] if self.enrolment else []
        for port in ports:
            while shown_on(port) != new:
                pass

    def stop(self) -> None:
        for one in (self.broker, self.enrolment):
            if one is not None:
                one.stop()
        self.broker = self.enrolment = None

    def close(self) -> None:
        self.stop()
        self.fleet.close()

    def device(self, name: str, *, authority: Authority | None = None) -> Pass:
        """What an enrolled device has."""
        key, now = Ed25519PrivateKey.generate(), utc_now()
        issuer = authority or self.fleet.authority
        certificate = issuer.issue_device(name, key.public_key(), now)
        if authority is None:
            with self.fleet.store.writing() as db:
                devices.enrol(db, name, key.public_key().public_bytes_raw(), to_ms(now))
                note(db, certificate, now)
        return Pass(certificate=certificate, key=key)

    def role(self, role: Role) -> Pass:
        """What a process of the gateway has."""
        key, now = new_service_key(), utc_now()
        certificate = self.fleet.authority.issue_role(role, key.public_key(), now)
        with self.fleet.store.writing() as db:
            note(db, certificate, now)
        return Pass(certificate=certificate, key=key)

    def refresh(self) -> None:
        """Bring what was issued into the broker's files, before it starts."""
        keep_fresh(self.fleet, utc_now())

    @contextmanager
    def client(self, shown: Pass, *filters: str) -> Iterator[Client]:
        with Client(self.address, context_for(self.fleet.authority, shown)) as client:
            if filters:
                client.subscribe(*filters)
            yield client

    def connected(
        self, shown: Pass, *filters: str, will: tuple[str, bytes] | None = None, keep: bool = False
    ) -> Client:
        """A client that stays; the test or the broker ends it."""
        client = Client(self.address, context_for(self.fleet.authority, shown))
        flags = (0 if keep else CLEAN) | (WILL if will else 0)
        last_words = b"" if will is None else _text(will[0].encode()) + _text(will[1])
        try:
            client.connect(flags=flags, will=last_words)
        except BaseException:
            client.drop()
            raise
        if filters:
            client.subscribe(*filters)
        return client

    @property
    def address(self) -> tuple[str, int]:
        return self.fleet.config.broker.near


class PlainClient(Client):
    """One without TLS, for a listener that a test adds."""

    def __init__(self, port: int) -> None:
        self._link = socket.create_connection(("127.0.0.1", port), timeout=10)  # type: ignore[assignment]
        self.inbox = []
        self._read = 0


def shown_on(port: int) -> x509.Certificate | None:
    """What a broker shows to whoever comes; None if it hangs up before that is read."""
    try:
        pem = ssl.get_server_certificate(("127.0.0.1", port))
    except OSError:
        return None
    return x509.load_pem_x509_certificate(pem.encode())


def topics_of(base: str, names: Sequence[str]) -> list[str]:
    """One topic of every kind for each of these names, and the fleet's."""
    found = [f"{base}/all/round"]
    for name in names:
        found += [f"{base}/up/{name}/{leaf}" for leaf in ("status", "message", "renew")]
        found += [f"{base}/down/{name}/{leaf}" for leaf in ("message", "renew")]
        found += [f"{base}/{branch}/{name}/chunk/{'0' * 64}/0" for branch in ("up", "down")]
    return found
