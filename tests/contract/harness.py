"""One way to use every broker, so that one suite can be run against all of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from certificates import Authority
from real_mosquitto import Mosquitto, tls_lines

from fedsparse.transport.base import Event, Received, Transport, Will
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.transport.mqtt import MqttTransport
from tools.broker import Name, RunningBroker, start_broker

PATIENCE_S = 30.0
LIMIT_BYTES = 2_000_000  # mosquitto's from version 2.1 on
T = TypeVar("T")


class Harness(Protocol):
    """A broker to test against.

    Attributes:
        keeps_sessions: anonymous clients' sessions are resumed.
        packet_bytes: the largest packet that it takes, where it says so.
    """

    keeps_sessions: bool
    packet_bytes: int | None

    def client(
        self, client_id: str, *, will: Will | None = None, clean_session: bool = False
    ) -> Transport: ...
    def cut(self, transport: Transport) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...
    def close(self) -> None: ...


class MemoryHarness:
    def __init__(self, *, sessions: bool, packet_bytes: int | None = None) -> None:
        self.keeps_sessions, self.packet_bytes = sessions, packet_bytes
        self._broker = MemoryBroker(sessions=sessions, packet_bytes=packet_bytes)

    def client(
        self, client_id: str, *, will: Will | None = None, clean_session: bool = False
    ) -> Transport:
        return MemoryTransport(
            self._broker, client_id=client_id, will=will, clean_session=clean_session
        )

    def cut(self, transport: Transport) -> None:
        assert isinstance(transport, MemoryTransport)
        self._broker.cut(transport)

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.restart()

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Flavour:
    """A broker process, and how one speaks with it.

    Attributes:
        broker: which one.
        protocol: the version of MQTT.
        tls: whether both ends show a certificate.
        packet_bytes: the largest packet that the broker takes.
    """

    broker: Name = "mosquitto"
    protocol: str = "auto"
    tls: bool = False
    packet_bytes: int | None = None


FLAVOURS = {
    "mosquitto": Flavour(),
    "mosquitto, MQTT 3.1.1": Flavour(protocol="3.1.1"),
    "mosquitto, MQTT 5": Flavour(protocol="5"),
    "mosquitto, TLS both ways": Flavour(tls=True),
    "mosquitto, 2 MB a packet": Flavour(packet_bytes=LIMIT_BYTES),
    "amqtt": Flavour(broker="amqtt", protocol="3.1.1"),
}


class ProcessHarness:
    def __init__(self, flavour: Flavour, folder: Path) -> None:
        self.keeps_sessions = flavour.broker == "mosquitto"
        self.packet_bytes = flavour.packet_bytes
        self._flavour, self._folder = flavour, folder
        self._authority = Authority(folder / "authority") if flavour.tls else None
        self._mosquitto: Mosquitto | None = None
        self._amqtt: RunningBroker | None = None
        if flavour.broker == "mosquitto":
            self._mosquitto = Mosquitto(folder, self._listener())
        else:
            self._amqtt = start_broker(folder, prefer="amqtt")
        self._clients: list[MqttTransport] = []

    def _listener(self) -> str:
        if self._authority is not None:
            return tls_lines(self._authority.ca, self._authority.sign("broker", "127.0.0.1"))
        limit = self._flavour.packet_bytes
        return "" if limit is None else f"max_packet_size {limit}"

    @property
    def _port(self) -> int:
        running = self._mosquitto or self._amqtt
        assert running is not None
        return running.port

    @property
    def address(self) -> BrokerConfig:
        """For a client of any name."""
        return self.address_of("anybody")

    def address_of(self, client_id: str) -> BrokerConfig:
        """With TLS every client has a certificate of its own."""
        tls = None
        if self._authority is not None:
            pair = self._authority.sign(client_id)
            tls = TlsConfig(ca=self._authority.ca, certificate=pair.certificate, key=pair.key)
        return BrokerConfig(
            port=self._port, keepalive_s=5, protocol=self._flavour.protocol, tls=tls
        )

    def client(
        self, client_id: str, *, will: Will | None = None, clean_session: bool = False
    ) -> Transport:
        transport = MqttTransport(
            self.address_of(client_id),
            client_id=client_id,
            will=will,
            clean_session=clean_session,
            reconnect_s=(0.25, 1.0),
        )
        self._clients.append(transport)
        return transport

    def cut(self, transport: Transport) -> None:
        assert isinstance(transport, MqttTransport)
        break_off(transport)

    def stop(self) -> None:
        running = self._mosquitto or self._amqtt
        assert running is not None
        running.stop()

    def start(self) -> None:
        if self._mosquitto is not None:
            self._mosquitto.start()
        else:
            self._amqtt = start_broker(self._folder, port=self._port, prefer="amqtt")

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.stop()


def break_off(transport: MqttTransport) -> None:
    """What a lost link does to a connection: neither end says anything."""
    connection = transport._open
    assert connection is not None
    assert connection._dial._socket is not None
    connection._dial._socket.shutdown(socket.SHUT_RDWR)


def wait_for(step: Callable[[], T | None], what: str) -> T:
    """The first result of `step` that is not None; `step` waits a little by itself."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if (result := step()) is not None:
            return result
    raise AssertionError(f"{what} did not happen within {PATIENCE_S} s")


def next_event(transport: Transport, kind: type[T]) -> T:
    """The next event of this kind; others are skipped."""

    def step() -> T | None:
        event: Event | None = transport.receive(0.2)
        return event if isinstance(event, kind) else None

    return wait_for(step, kind.__name__)


def start(transport: Transport, *filters: str) -> None:
    """Connect, and return when the broker has taken the subscriptions (it does so in order)."""
    probe = f"probe/{id(transport)}"
    for topic_filter in (*filters, probe):
        transport.subscribe(topic_filter)
    transport.start()
    confirm(transport)


def confirm(transport: Transport) -> None:
    """Return when the broker has taken everything that `transport` asked it for."""
    probe = f"probe/{id(transport)}"
    transport.publish(probe, b"?")
    while next_event(transport, Received).topic != probe:
        pass
