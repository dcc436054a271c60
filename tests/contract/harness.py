"""One way to use every broker, so that one suite can be run against all of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from fedsparse.transport.base import Event, Received, Transport, Will
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.memory import MemoryBroker, MemoryTransport
from fedsparse.transport.mqtt import MqttTransport
from tools.broker import Name, start_broker

PATIENCE_S = 30.0
T = TypeVar("T")


class Harness(Protocol):
    """A broker to test against; `keeps_sessions`: anonymous clients' sessions are resumed."""

    keeps_sessions: bool

    def client(
        self, client_id: str, *, will: Will | None = None, clean_session: bool = False
    ) -> Transport: ...
    def cut(self, transport: Transport) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...
    def close(self) -> None: ...


class MemoryHarness:
    def __init__(self, *, sessions: bool) -> None:
        self.keeps_sessions = sessions
        self._broker = MemoryBroker(sessions=sessions)

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


class ProcessHarness:
    def __init__(self, name: Name, folder: Path) -> None:
        self.keeps_sessions = name == "mosquitto"
        self._name, self._folder = name, folder
        self._broker = start_broker(folder, prefer=name)
        self._clients: list[MqttTransport] = []

    @property
    def address(self) -> BrokerConfig:
        return BrokerConfig(port=self._broker.port, keepalive_s=5)

    def client(
        self, client_id: str, *, will: Will | None = None, clean_session: bool = False
    ) -> Transport:
        transport = MqttTransport(
            self.address,
            client_id=client_id,
            will=will,
            clean_session=clean_session,
            reconnect_s=(0.25, 1.0),
        )
        self._clients.append(transport)
        return transport

    def cut(self, transport: Transport) -> None:
        assert isinstance(transport, MqttTransport)
        connection = transport._client.socket()
        assert connection is not None
        connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker = start_broker(self._folder, port=self._broker.port, prefer=self._name)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._broker.stop()


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
