"""What only the paho transport has to get right; the rest is in tests/contract."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedsparse.errors import ConfigError, TransportError
from fedsparse.transport.base import Connected, Disconnected, Published, Received
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.mqtt import SPREAD, MqttTransport
from tools.broker import Login, RunningBroker, find_mosquitto, start_broker

ROOT = Path(__file__).parents[3]

# Hears of a topic, and dies over a certain payload, though it has time to acknowledge it.
CONSUMER = """
import os, signal, sys, time
from fedsparse.transport.base import Received
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.mqtt import SPREAD, MqttTransport
transport = MqttTransport(BrokerConfig(port=int(sys.argv[1])), client_id="reader")
transport.subscribe("t")
transport.start()
while True:
    event = transport.receive(1.0)
    if isinstance(event, Received):
        print(event.payload.decode(), flush=True)
        if event.payload == b"deadly":
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    running = start_broker(tmp_path / "broker")
    yield running
    running.stop()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def await_event(transport: MqttTransport, kind: type) -> object:
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        if isinstance(event := transport.receive(0.2), kind):
            return event
    raise AssertionError(f"no {kind.__name__}")


def test_a_broker_that_is_not_there_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    transport = MqttTransport(BrokerConfig(port=port), client_id="a")
    with pytest.raises(TransportError, match=rf"127\.0\.0\.1:{port}.*`fedsparse broker`"):
        transport.start()
    transport.close()


def test_a_name_that_cannot_be_resolved_is_named() -> None:
    transport = MqttTransport(BrokerConfig(host="no-such-host.invalid"), client_id="a")
    with pytest.raises(TransportError, match=r"no-such-host\.invalid:1883"):
        transport.start()


def test_a_server_that_does_not_speak_mqtt_is_noticed(silent_port: int) -> None:
    transport = MqttTransport(BrokerConfig(port=silent_port), client_id="a", connect_timeout_s=0.3)
    with pytest.raises(TransportError, match=f"{silent_port} .*does not speak MQTT"):
        transport.start()


def test_a_start_that_failed_can_be_tried_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    transport = MqttTransport(BrokerConfig(port=port), client_id="a")
    with pytest.raises(TransportError, match="no broker"):
        transport.start()
    running = start_broker(tmp_path / "broker", port=port)
    transport.start()
    assert await_event(transport, Connected)
    transport.close()
    running.stop()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_wrong_credentials_are_refused_and_right_ones_let_in(tmp_path: Path) -> None:
    login = Login(username="pi", password="right")  # noqa: S106 (of a test)
    running = start_broker(tmp_path / "broker", login=login)
    for password in ("wrong", "right"):
        file = tmp_path / password
        file.write_text(f"{password}\n")
        config = BrokerConfig(port=running.port, username="pi", password_file=file)
        transport = MqttTransport(config, client_id="a")
        if password == "wrong":  # noqa: S105 (of a test)
            with pytest.raises(TransportError, match=r"refuses us: .*password_file"):
                transport.start()
        else:
            transport.start()
            transport.close()
    running.stop()


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    config = BrokerConfig(username="pi", password_file=tmp_path / "secret")
    with pytest.raises(ConfigError, match=r"password_file.*secret"):
        MqttTransport(config, client_id="a")


def test_a_full_queue_is_an_error_and_not_a_leak() -> None:
    transport = MqttTransport(BrokerConfig(), client_id="a")
    for _ in range(2_048):
        transport.publish("t", b"")
    with pytest.raises(TransportError, match=r"2048 payloads wait for the broker at 127"):
        transport.publish("t", b"")


def test_a_dead_network_thread_is_noticed_and_started_again(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a")
    transport.start()
    await_event(transport, Connected)

    def broken(*_: object) -> None:
        raise RuntimeError("a bug in a callback")

    working = transport._client.on_publish
    transport._client.on_publish = broken
    with caplog.at_level(logging.ERROR):
        transport.publish("t", b"x")
        assert transport._client.stopped.wait(30)
    assert "a bug in a callback" in caplog.text
    transport._client.on_publish = working
    event = await_event(transport, Disconnected)
    assert isinstance(event, Disconnected)
    assert "network thread" in event.reason
    await_event(transport, Connected)
    transport.publish("t", b"y")
    await_event(transport, Published)
    transport.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_no_more_payloads_come_than_were_dealt_with(broker: RunningBroker) -> None:
    config = BrokerConfig(port=broker.port)
    slow = MqttTransport(config, client_id="slow")
    slow.subscribe("t")
    slow.start()
    slow.publish("t", b"the broker knows the subscription when this has come back")
    await_event(slow, Received)
    writer = MqttTransport(config, client_id="writer")
    writer.start()
    for number in range(200):
        writer.publish("t", str(number).encode())
    for _ in range(200):
        await_event(writer, Published)
    assert slow._events.qsize() <= 1 + 20  # its own `Published`, and the broker's in-flight limit
    numbers = [await_event(slow, Received) for _ in range(200)]
    assert [int(event.payload) for event in numbers if isinstance(event, Received)] == list(
        range(200)
    )
    slow.close()
    writer.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_a_payload_whose_consumer_died_over_it_is_delivered_again(broker: RunningBroker) -> None:
    """It is acknowledged when the next event is asked for, and not before."""
    writer = MqttTransport(BrokerConfig(port=broker.port), client_id="writer")
    writer.start()
    writer.publish("t", b"hello", retain=True)
    for again in (False, True):
        command = [sys.executable, "-c", CONSUMER, str(broker.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as consumer:
            try:
                assert consumer.stdout is not None
                if not again:
                    assert consumer.stdout.readline() == "hello\n"  # it is subscribed
                    writer.publish("t", b"deadly")
                heard, _ = consumer.communicate(timeout=30)
            finally:
                consumer.kill()
        assert "deadly" in heard.split()
        assert consumer.returncode == -signal.SIGKILL
    writer.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_an_acknowledgement_is_for_the_connection_on_which_the_payload_came(
    broker: RunningBroker,
) -> None:
    """After a cut the broker delivers again what it has no acknowledgement of, and only that."""
    transport = MqttTransport(
        BrokerConfig(port=broker.port), client_id="reader", reconnect_s=(0.1, 1.0)
    )
    transport.subscribe("t")
    transport.start()
    await_event(transport, Connected)
    writer = MqttTransport(BrokerConfig(port=broker.port), client_id="writer")
    writer.start()
    for payload in (b"1", b"2"):
        writer.publish("t", payload)
    for payload in (b"1", b"2"):  # asking for the second acknowledges the first
        event = await_event(transport, Received)
        assert isinstance(event, Received)
        assert event.payload == payload
    while transport._client.want_write():
        time.sleep(0.001)
    for _ in range(3):  # what has left before is with the broker when these are
        writer.publish("probe", b"")
        await_event(writer, Published)
    connection = transport._client.socket()
    assert connection is not None
    connection.shutdown(socket.SHUT_RDWR)
    await_event(transport, Disconnected)  # asks for more: "2" came on another connection
    await_event(transport, Connected)
    again = await_event(transport, Received)
    assert isinstance(again, Received)
    assert again.payload == b"2"
    transport.publish("t", b"3")
    last = await_event(transport, Received)
    assert isinstance(last, Received)
    assert last.payload == b"3"
    transport.close()
    writer.close()


def test_a_fleet_that_lost_its_broker_does_not_come_back_in_step(tmp_path: Path) -> None:
    """The pauses before the first attempt are spread over seconds; a refusal begins none anew."""
    running = start_broker(tmp_path / "broker")
    fleet = [MqttTransport(BrokerConfig(port=running.port), client_id=f"d{i}") for i in range(20)]
    for transport in fleet:
        transport.start()
        await_event(transport, Connected)
    running.stop()
    pauses = sorted(transport._client._reconnect_min_delay for transport in fleet)
    assert pauses[0] >= 0.5
    assert pauses[-1] <= SPREAD
    assert pauses[15] - pauses[5] > 0.5
    for transport in fleet:
        transport.close()


def test_closing_ends_the_network_thread(broker: RunningBroker) -> None:
    before = threading.active_count()
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a")
    transport.start()
    transport.close()
    assert threading.active_count() == before
