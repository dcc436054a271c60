"""What only the paho transport has to get right; the rest is in tests/contract."""

from __future__ import annotations

import gc
import logging
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from real_mosquitto import Mosquitto

from fedsparse.errors import ConfigError, TransportError
from fedsparse.transport import backoff, mqtt
from fedsparse.transport.backoff import Backoff
from fedsparse.transport.base import Connected, Disconnected, Published, Received
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.mqtt import MqttTransport
from tools.broker import Login, RunningBroker, find_mosquitto, start_broker

ROOT = Path(__file__).parents[3]

# Hears of a topic, and dies over a certain payload, though it has time to acknowledge it.
CONSUMER = """
import os, signal, sys, time
from fedsparse.transport.base import Received
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.mqtt import MqttTransport
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


def await_event(transport: MqttTransport, kind: type | tuple[type, ...]) -> object:
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        if isinstance(event := transport.receive(0.2), kind):
            return event
    raise AssertionError(f"no {kind}")


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
    with pytest.raises(TransportError, match=r"2048 payloads wait for the broker"):
        transport.publish("t", b"")


def test_a_fault_in_the_network_thread_costs_a_connection_and_no_payload(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a", reconnect_s=(0.1, 1.0))
    transport.start()
    await_event(transport, Connected)

    def broken(*_: object) -> None:
        raise RuntimeError("a bug in a callback")

    assert transport._open is not None
    transport._open._client.on_publish = broken
    handle = transport.publish("t", b"x")
    event = await_event(transport, Disconnected)
    assert isinstance(event, Disconnected)
    assert "network thread" in event.reason
    wait_until(lambda: "a bug in a callback" in caplog.text)
    await_event(transport, Connected)
    assert await_event(transport, Published) == Published(handle=handle)
    transport.close()


def test_a_dead_network_thread_is_noticed_and_replaced(broker: RunningBroker) -> None:
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a")
    transport.start()
    await_event(transport, Connected)
    line = transport._line
    assert line is not None
    assert line.thread is not None
    line.over.set()  # it does not come back from the end of its connection
    break_off(transport)
    line.thread.join(30)
    assert await_event(transport, Disconnected)
    await_event(transport, Connected)
    handle = transport.publish("t", b"y")
    assert await_event(transport, Published) == Published(handle=handle)
    transport.close()


def break_off(transport: MqttTransport) -> None:
    connection = transport._open
    assert connection is not None
    assert connection._dial._socket is not None
    connection._dial._socket.shutdown(socket.SHUT_RDWR)


def test_a_thread_that_hangs_in_the_look_up_of_a_name_is_replaced(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes of it later does not evict the connection of its successor."""
    config = BrokerConfig(port=broker.port)
    transport = MqttTransport(config, client_id="a", reconnect_s=(0.1, 1.0), hang_s=0.5)
    transport.start()
    await_event(transport, Connected)
    name_server = HangingOnce()
    monkeypatch.setattr(socket, "getaddrinfo", name_server)
    break_off(transport)
    await_event(transport, Disconnected)
    await_event(transport, Connected)
    assert "hangs at: looking up the name 127.0.0.1" in caplog.text
    stuck = next(one for one in threading.enumerate() if one is name_server.caller)
    name_server.answer.set()
    stuck.join(30)
    handle = transport.publish("t", b"x")
    assert transport.receive(30) == Published(handle=handle)
    transport.close()


class HangingOnce:
    """A look-up of names that answers the first caller when it is told to, others at once."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.caller: threading.Thread | None = None
        self._look_up = socket.getaddrinfo

    def __call__(self, *arguments: object, **more: object) -> object:
        if self.caller is None:
            self.caller = threading.current_thread()
            assert self.answer.wait(30)
        return self._look_up(*arguments, **more)  # type: ignore[arg-type]


def test_a_thread_that_hangs_while_connected_is_replaced(broker: RunningBroker) -> None:
    config = BrokerConfig(port=broker.port)
    transport = MqttTransport(config, client_id="a", reconnect_s=(0.1, 1.0), hang_s=0.5)
    transport.start()
    await_event(transport, Connected)
    blocked, released = transport._open, threading.Event()
    assert blocked is not None
    blocked._client.on_publish = lambda *_: released.wait(30)
    handle = transport.publish("t", b"x")
    event = await_event(transport, Disconnected)
    assert isinstance(event, Disconnected)
    assert "hangs at: connected" in event.reason
    await_event(transport, Connected)
    assert await_event(transport, Published) == Published(handle=handle)
    released.set()
    transport.close()


def test_a_start_that_hangs_is_told(silent_port: int, tmp_path: Path) -> None:
    config = BrokerConfig(port=silent_port, tls=TlsConfig(ca=Authority(tmp_path).ca))
    transport = MqttTransport(config, client_id="a", hang_s=0.3)
    with pytest.raises(TransportError, match=r"hangs at: the TLS handshake"):
        transport.start()


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
    writer.subscribe("probe")
    writer.start()
    writer.publish("probe", b"")
    await_probe(writer)
    for payload in (b"1", b"2"):
        writer.publish("t", payload)
    for payload in (b"1", b"2"):  # asking for the second acknowledges the first
        event = await_event(transport, Received)
        assert isinstance(event, Received)
        assert event.payload == payload
    transport.publish("probe", b"")  # goes the way of the acknowledgement, behind it
    await_probe(writer)
    break_off(transport)
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


def await_probe(transport: MqttTransport) -> None:
    while True:
        event = await_event(transport, Received)
        assert isinstance(event, Received)
        if event.topic == "probe":
            return


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_nothing_is_acknowledged_that_came_later_under_the_same_number(
    broker: RunningBroker,
) -> None:
    """A broker that has forgotten the session counts anew: 1 is another payload then."""
    config = BrokerConfig(port=broker.port, keepalive_s=5)
    reader = MqttTransport(config, client_id="reader", reconnect_s=(0.1, 1.0))
    reader.subscribe("t")
    reader.start()
    await_event(reader, Connected)
    writer = MqttTransport(config, client_id="writer")
    writer.subscribe("probe")
    writer.start()
    writer.publish("t", b"first")
    await_event(reader, Received)  # handed out, and not acknowledged
    first = reader._open
    successor = MqttTransport(config, client_id="reader", clean_session=True)
    successor.start()  # evicts the reader, and makes the broker forget what it knew of it
    successor.close()
    wait_until(lambda: reader._open not in (None, first))
    reader.publish("probe", b"")
    await_probe(writer)  # the reader has subscribed again
    writer.publish("t", b"second")
    wait_until(lambda: any(isinstance(event, Received) for event, _ in reader._events.queue))
    await_event(reader, Disconnected)  # the first is done with: too late to say so
    reader.publish("probe", b"")
    await_probe(writer)
    second = reader._open
    break_off(reader)
    wait_until(lambda: reader._open not in (None, second))
    reader.publish("probe", b"")
    await_probe(writer)
    came = [event.payload for event, _ in reader._events.queue if isinstance(event, Received)]
    assert came == [b"second"] * 2, "the broker took the first's acknowledgement for the second's"
    reader.close()
    writer.close()


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_a_fleet_that_lost_its_broker_does_not_come_back_in_step(tmp_path: Path) -> None:
    """All see the end in the same moment; they come back spread over the first pause."""
    running = start_broker(tmp_path / "broker")
    fleet = [
        MqttTransport(BrokerConfig(port=running.port), client_id=f"d{i}", reconnect_s=(0.5, 2.0))
        for i in range(40)
    ]
    for transport in fleet:
        transport.start()
        await_event(transport, Connected)
    running.stop()
    running = start_broker(tmp_path / "broker", port=running.port)
    began_s = time.monotonic()
    back: dict[MqttTransport, float] = {}
    while len(back) < len(fleet):
        assert time.monotonic() < began_s + 30
        for transport in fleet:
            if isinstance(transport.receive(0.002), Connected):
                back[transport] = time.monotonic() - began_s
    moments = sorted(back.values())
    assert moments[30] - moments[10] > 0.3
    for transport in fleet:
        transport.close()
    running.stop()


def test_the_pauses_are_drawn_from_the_given_generator(caplog: pytest.LogCaptureFixture) -> None:
    with FlappingBroker() as flapping, caplog.at_level(logging.INFO):
        transport = MqttTransport(
            BrokerConfig(port=flapping.port, protocol="3.1.1"),
            client_id="a",
            reconnect_s=(0.1, 10.0),
            rng=random.Random(7),
        )
        transport.start()
        wait_until(lambda: len(pauses(caplog, flapping.port)) >= 4)
        transport.close()
    wanted = Backoff(0.1, 10.0, rng=random.Random(7), clock=time.monotonic)
    assert pauses(caplog, flapping.port)[:4] == [f"{wanted.next_pause_s():.1f}" for _ in range(4)]


def test_a_broker_that_comes_and_goes_is_not_hammered(caplog: pytest.LogCaptureFixture) -> None:
    """It accepts, and ends the connection at once: the pauses grow all the same."""
    with FlappingBroker() as flapping, caplog.at_level(logging.INFO):
        config = BrokerConfig(port=flapping.port, protocol="3.1.1")
        transport = MqttTransport(config, client_id="a", reconnect_s=(0.05, 10.0))
        transport.start()
        wait_until(lambda: any(float(pause) >= 0.5 for pause in pauses(caplog, flapping.port)))
        transport.close()
    assert 3 <= flapping.accepted <= 9


def test_a_connection_that_lasted_begins_anew_with_short_pauses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "HELD_S", 0.0)
    with FlappingBroker() as flapping, caplog.at_level(logging.INFO):
        config = BrokerConfig(port=flapping.port, protocol="3.1.1")
        transport = MqttTransport(config, client_id="a", reconnect_s=(0.05, 10.0))
        transport.start()
        wait_until(lambda: len(pauses(caplog, flapping.port)) >= 8)
        transport.close()
    assert all(float(pause) <= 0.2 for pause in pauses(caplog, flapping.port))


def pauses(caplog: pytest.LogCaptureFixture, port: int) -> list[str]:
    return re.findall(rf":{port} .*again_in=(\S+)", caplog.text)


class FlappingBroker:
    """Accepts every client of MQTT 3.1.1, and ends the connection."""

    def __enter__(self) -> FlappingBroker:
        self.accepted = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x20\x02\x00\x00")


def test_closing_ends_the_network_thread(broker: RunningBroker) -> None:
    before = threading.active_count()
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a")
    transport.start()
    transport.close()
    assert threading.active_count() == before


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_too_many_events_cost_no_acknowledgement_and_no_connection(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Payloads are left to the broker, which delivers them again; all else is kept."""
    monkeypatch.setattr(mqtt, "EVENTS_KEPT", 5)
    config = BrokerConfig(port=broker.port)
    reader = MqttTransport(config, client_id="reader", reconnect_s=(0.1, 1.0))
    reader.subscribe("t")
    reader.start()
    handles = {reader.publish("other", b"") for _ in range(10)}
    writer = MqttTransport(config, client_id="writer")
    writer.start()
    for number in range(15):
        writer.publish("t", str(number).encode())
    for _ in range(15):
        await_event(writer, Published)
    wait_until(lambda: reader._dropped)
    came, taken = set(), set()
    while len(came) < 15 or taken != handles:
        event = await_event(reader, (Received, Published))
        if isinstance(event, Published):
            taken.add(event.handle)
        elif isinstance(event, Received):
            came.add(event.payload)
    reader.close()
    writer.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
@pytest.mark.parametrize(
    ("protocol", "said", "configured", "limit"),
    [
        ("5", 20_000, None, 20_000),
        ("5", 20_000, 30_000, 20_000),
        ("5", 20_000, 10_000, 10_000),
        ("5", None, 10_000, 10_000),
        ("5", None, None, None),
        ("3.1.1", 20_000, None, None),
        ("3.1.1", 20_000, 10_000, 10_000),
    ],
)
def test_the_smaller_limit_counts(
    tmp_path: Path, protocol: str, said: int | None, configured: int | None, limit: int | None
) -> None:
    broker = Mosquitto(tmp_path, "" if said is None else f"max_packet_size {said}")
    config = BrokerConfig(port=broker.port, protocol=protocol, max_packet_bytes=configured)
    transport = MqttTransport(config, client_id="a")
    transport.start()
    assert transport.receive(30) == Connected(resumed=False, packet_bytes=limit)
    transport.close()
    broker.stop()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_what_waits_and_is_too_large_is_refused_and_holds_up_nothing(tmp_path: Path) -> None:
    """paho would send it, be cut off, and send it again for ever."""
    broker = Mosquitto(tmp_path, "max_packet_size 20000")
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a")
    large, small = transport.publish("t", bytes(20_000)), transport.publish("t", b"x")
    transport.start()
    assert transport.receive(30) == Connected(resumed=False, packet_bytes=20_000)
    refused = transport.receive(30)
    assert isinstance(refused, Published)
    assert refused.handle == large
    assert "20000 at most; raise its `max_packet_size`" in refused.refused
    assert transport.receive(30) == Published(handle=small)
    assert not transport._outgoing
    transport.close()
    broker.stop()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_a_payload_that_the_broker_forbids_is_told(tmp_path: Path) -> None:
    """With MQTT 5 it says so; with 3.1.1 it acknowledges, and drops."""
    (tmp_path / "acl").write_text("topic write allowed\n")
    (tmp_path / "acl").chmod(0o600)
    broker = Mosquitto(tmp_path, f"acl_file {tmp_path / 'acl'}")
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a")
    transport.start()
    await_event(transport, Connected)
    handle = transport.publish("forbidden", b"x")
    assert transport.receive(30) == Published(handle=handle, refused="Not authorized")
    transport.close()
    broker.stop()


def test_a_broker_that_does_not_speak_mqtt_5_is_spoken_to_in_3_1_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "PROBE_S", 0.3)  # amqtt takes it for a packet that goes on
    broker = start_broker(tmp_path, prefer="amqtt")
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a", reconnect_s=(0.1, 1.0))
    transport.start()
    for _ in range(2):  # the second time it is known
        await_event(transport, Connected)
        assert transport._open is not None
        assert transport._open.version == "3.1.1"
        break_off(transport)
        monkeypatch.setattr(mqtt, "VERSIONS", ())
    transport.close()
    broker.stop()


def test_mqtt_5_where_the_broker_does_not_speak_it_is_told(tmp_path: Path) -> None:
    broker = start_broker(tmp_path, prefer="amqtt")
    config = BrokerConfig(port=broker.port, protocol="5")
    transport = MqttTransport(config, client_id="a", connect_timeout_s=0.5)
    with pytest.raises(TransportError, match=r"does not speak MQTT 5; .* leave out `protocol`"):
        transport.start()
    broker.stop()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_what_the_broker_has_taken_is_not_sent_again_and_is_forgotten(
    broker: RunningBroker,
) -> None:
    """Though its acknowledgement was not asked for before the cut."""
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a", reconnect_s=(0.1, 1.0))
    transport.subscribe("t")
    transport.start()
    handle = transport.publish("t", b"once")
    first = transport._open
    assert first is not None
    wait_until(lambda: bool(first.taken))
    break_off(transport)
    wait_until(lambda: transport._open not in (None, first))
    last = transport.publish("t", b"last")
    came = []
    while (event := transport.receive(30)) != Published(handle=last):
        came.append(event)
    assert came.count(Published(handle=handle)) == 1
    while not any(isinstance(one, Received) and one.payload == b"last" for one in came):
        came.append(transport.receive(30))
    payloads = [one.payload for one in came if isinstance(one, Received)]
    assert payloads.count(b"once") <= 2  # the broker may deliver it on both connections
    assert transport._open is not None
    assert not transport._outgoing
    assert not transport._outgoing._sent
    assert not transport._open.taken
    assert not first.taken
    transport.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_a_broker_of_mqtt_5_is_given_as_much_at_once_as_it_says(broker: RunningBroker) -> None:
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a")
    transport.start()
    assert transport._open is not None
    assert transport._open._client.max_inflight_messages == 20  # of start_broker
    transport.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="sudo apt install mosquitto")
def test_a_packet_beyond_all_measure_does_not_reach_us(broker: RunningBroker) -> None:
    """The broker is told what we take: it would fill a small device's memory."""
    reader = MqttTransport(BrokerConfig(port=broker.port), client_id="reader")
    reader.subscribe("t")
    reader.start()
    await_event(reader, Connected)
    writer = MqttTransport(BrokerConfig(port=broker.port), client_id="writer")
    writer.start()
    for payload in (bytes(3 * 2**20), b"small"):
        writer.publish("t", payload)
    event = await_event(reader, Received)
    assert isinstance(event, Received)
    assert event.payload == b"small"
    reader.close()
    writer.close()


def test_a_file_of_tls_that_is_at_fault_is_told_before_anything_is_connected(
    tmp_path: Path,
) -> None:
    config = BrokerConfig(tls=TlsConfig(ca=tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"\[broker.tls\] ca: .*ca.pem: no such file"):
        MqttTransport(config, client_id="a")


def test_a_connection_that_is_over_leaves_no_payload_behind(broker: RunningBroker) -> None:
    """A device has no memory for what the garbage collector may find some time later."""
    transport = MqttTransport(BrokerConfig(port=broker.port), client_id="a", reconnect_s=(0.1, 1.0))
    transport.start()
    await_event(transport, Connected)
    assert transport._open is not None
    client = weakref.ref(transport._open._client)
    gc.disable()
    try:
        break_off(transport)
        await_event(transport, Disconnected)
        await_event(transport, Connected)
        wait_until(lambda: client() is None)
    finally:
        gc.enable()
    transport.close()
