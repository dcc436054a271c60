"""MQTT 3.1.1 over TCP with paho (https://eclipse.dev/paho/).

paho's network thread runs callbacks; an exception in one would end that thread while the client
still says that it is connected, and long work would starve the keepalive. So they only enqueue,
and `receive` watches the thread. A payload is acknowledged when the consumer asks for the next
event: it has then done with it what it wanted to, on the disk too. So one that dies over a payload
is given it again, and a slow one is spared by the broker's in-flight limit instead of filling its
own memory.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from dataclasses import dataclass
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from fedsparse.errors import ConfigError, TransportError
from fedsparse.transport.base import (
    Connected,
    Disconnected,
    Event,
    Published,
    Received,
    Will,
)
from fedsparse.transport.config import BrokerConfig

QOS: Final = 1
EVENTS_KEPT: Final = 8_192
PAYLOADS_QUEUED: Final = 2_048
SPREAD: Final = 4.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Receipt:
    """What is to be acknowledged, and on which connection: ids are those of a session."""

    packet_id: int
    connection: int


_Queued = tuple[Event, _Receipt | None]


class _NoTls:
    """What paho names of `ssl` on a plain connection, where a process did without the module."""

    class SSLWantReadError(OSError):
        """Never raised."""

    class SSLWantWriteError(OSError):
        """Never raised."""


if getattr(paho, "ssl", None) is None:  # a device leaves it out: edge_client/lean.py
    paho.ssl = _NoTls  # type: ignore[attr-defined, assignment]


class _Client(paho.Client):
    """paho's client, with a network thread that says when it has ended."""

    stopped: threading.Event

    @property
    def ended(self) -> bool:
        """Whether the network thread was started, and is gone."""
        return self.stopped.is_set() and self._thread is None

    def loop_forever(
        self, timeout: float = 1.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception:  # whatever paho met, the watchdog starts the thread again
            logger.exception("the network thread stopped")
            return MQTTErrorCode.MQTT_ERR_UNKNOWN
        finally:
            self.stopped.set()

    def loop_start(self) -> MQTTErrorCode:
        if self._thread is None:
            self._reset_sockets(sockpair_only=True)  # paho would leave the old ones open
            self.stopped.clear()
        return super().loop_start()

    def release(self) -> None:
        """Close every socket, for paho leaves some of them to the garbage collector."""
        self._reset_sockets()


class MqttTransport:
    """A connection to a real broker.

    Args:
        broker: where it is.
        client_id: unique at the broker: a second client of this name evicts the first.
        will: what to publish when we vanish.
        clean_session: whether the broker forgets us when we disconnect.
        connect_timeout_s: how long `start` waits for the broker's answer.
        reconnect_s: first and longest pause between attempts to reconnect; they double. Both are
            drawn anew for every connection: half to `SPREAD` times the first, three quarters of the
            longest at least.
        rng: draws the pauses.
    """

    def __init__(
        self,
        broker: BrokerConfig,
        *,
        client_id: str,
        will: Will | None = None,
        clean_session: bool = False,
        connect_timeout_s: float = 10.0,
        reconnect_s: tuple[float, float] = (1.0, 120.0),
        rng: random.Random | None = None,
    ) -> None:
        self._broker = broker
        self._timeout_s = connect_timeout_s
        self._reconnect_s = reconnect_s
        self._rng = rng or random.Random()  # noqa: S311 (no secret)
        self._events: queue.Queue[_Queued] = queue.Queue()
        self._connection = 0
        self._handed_out: list[_Receipt] = []
        self._filters: list[str] = []
        self._answered = threading.Event()
        self._refusal = ""
        self._started = False
        self._client = self._make_client(client_id, will, clean_session)

    @property
    def _address(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    def _make_client(self, client_id: str, will: Will | None, clean_session: bool) -> _Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean_session,
            protocol=paho.MQTTv311,
            manual_ack=True,
        )
        if self._broker.username:
            client.username_pw_set(self._broker.username, _password(self._broker))
        if will is not None:
            client.will_set(will.topic, will.payload, QOS, will.retain)
        client.stopped = threading.Event()
        client.max_queued_messages_set(PAYLOADS_QUEUED)
        client.max_inflight_messages_set(0)  # the channel paces its chunks; others overtake them
        client.connect_timeout = self._timeout_s
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def start(self) -> None:
        """Connect, and stay connected until `close`.

        Raises:
            TransportError: the broker cannot be reached now, or refuses us.
        """
        self._answered.clear()
        self._refusal = ""
        self._spread_reconnects()
        try:
            self._client.connect(self._broker.host, self._broker.port, self._broker.keepalive_s)
        except OSError as error:
            raise TransportError(
                f"no broker at {self._address}: {error}; start one with `fedsparse broker`, or "
                "correct host and port in the table [broker]"
            ) from error
        self._client.loop_start()
        self._started = True
        if not self._answered.wait(self._timeout_s):
            self._refusal = self._refusal or "it accepts the connection, but does not speak MQTT"
        if self._refusal:
            self.close()
            raise TransportError(
                f"the broker at {self._address} refuses us: {self._refusal}; check username and "
                "password_file in the table [broker]"
            )

    def subscribe(self, topic_filter: str) -> None:
        """Receive what matches `topic_filter`, on this connection and every later one."""
        if topic_filter not in self._filters:
            self._filters.append(topic_filter)
            if self._client.is_connected():
                self._client.subscribe(topic_filter, QOS)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Hand over a payload; returns the handle that its `Published` will carry.

        Raises:
            TransportError: too many payloads wait for the broker already.
        """
        info = self._client.publish(topic, payload, QOS, retain)
        if info.rc is MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise TransportError(
                f"{PAYLOADS_QUEUED} payloads wait for the broker at {self._address}: it is slower "
                "than what it is given, or away"
            )
        return info.mid

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        """The next event, or None when none came in time.

        The ones before are then acknowledged, unless held.
        """
        self._watch_thread()
        if not hold:
            self._acknowledge()
        try:
            event, receipt = self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if receipt is not None:
            self._handed_out.append(receipt)
        return event

    def close(self) -> None:
        """Say goodbye (the will is then not published) and end the connection.

        What was handed out last is not acknowledged: its consumer may have failed over it.
        """
        self._started = False
        self._client.disconnect()
        self._client.loop_stop()
        self._client.release()

    def _acknowledge(self) -> None:
        """Of a connection that is gone nothing: the broker sends it again, or has forgotten us."""
        receipts, self._handed_out = self._handed_out, []
        for receipt in receipts:
            if receipt.connection == self._connection:
                self._client.ack(receipt.packet_id, QOS)

    def _watch_thread(self) -> None:
        if not self._started or not self._client.ended:
            return
        self._enqueue(Disconnected(reason="the network thread has stopped; it is started again"))
        self._connection += 1
        broker = self._broker
        self._client.connect_async(broker.host, broker.port, broker.keepalive_s)
        self._client.loop_start()

    def _spread_reconnects(self) -> None:
        """Devices that lost one broker must not come back in the same second, nor in step later."""
        shortest, longest = self._reconnect_s
        first = self._rng.uniform(0.5, SPREAD) * shortest
        last = self._rng.uniform(0.75, 1.0) * longest
        self._client.reconnect_delay_set(first, max(first, last))  # type: ignore[arg-type]

    def _enqueue(self, event: Event, receipt: _Receipt | None = None) -> None:
        self._events.put((event, receipt))

    def _on_connect(
        self, client: paho.Client, userdata: object, flags: paho.ConnectFlags, reason: ReasonCode,
        properties: object,
    ) -> None:  # fmt: skip
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            for topic_filter in self._filters:
                client.subscribe(topic_filter, QOS)
            self._refusal = ""
            self._spread_reconnects()
            self._enqueue(Connected(resumed=flags.session_present))
        self._answered.set()

    def _on_disconnect(
        self, client: paho.Client, userdata: object, flags: paho.DisconnectFlags,
        reason: ReasonCode, properties: object,
    ) -> None:  # fmt: skip
        self._connection += 1  # what came on it is not to be acknowledged on another
        self._enqueue(Disconnected(reason=self._refusal or str(reason)))

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.warning("a topic that is not UTF-8 is ignored")
            client.ack(message.mid, message.qos)
            return
        if self._events.qsize() >= EVENTS_KEPT:  # the broker delivers it again when we reconnect
            logger.error("%d events wait: a payload is dropped", EVENTS_KEPT)
            return
        received = Received(topic=topic, payload=bytes(message.payload), retained=message.retain)
        receipt = _Receipt(message.mid, self._connection) if message.qos else None
        self._enqueue(received, receipt)

    def _on_publish(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reason: ReasonCode,
        properties: object,
    ) -> None:
        self._enqueue(Published(handle=mid))


def _password(broker: BrokerConfig) -> str | None:
    if broker.password_file is None:
        return None
    try:
        return broker.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[broker] password_file: {broker.password_file}: {error}") from error
