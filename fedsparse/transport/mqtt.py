"""MQTT 3.1.1 over TCP with paho (https://eclipse.dev/paho/).

paho's network thread runs callbacks; an exception in one would end that thread while the client
still says that it is connected, and long work would starve the keepalive. So they only enqueue,
and `receive` watches the thread. A payload is acknowledged when `receive` hands it out, so that a
slow consumer is spared by the broker's in-flight limit instead of filling its own memory.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
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
logger = logging.getLogger(__name__)

_Queued = tuple[Event, int]  # with the packet id to acknowledge, or 0


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
        reconnect_s: shortest and longest pause between attempts to reconnect; they double.
    """

    def __init__(
        self,
        broker: BrokerConfig,
        *,
        client_id: str,
        will: Will | None = None,
        clean_session: bool = False,
        connect_timeout_s: float = 10.0,
        reconnect_s: tuple[int, int] = (1, 120),
    ) -> None:
        self._broker = broker
        self._timeout_s = connect_timeout_s
        self._reconnect_s = reconnect_s
        self._events: queue.Queue[_Queued] = queue.Queue(EVENTS_KEPT)
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

    def receive(self, timeout_s: float) -> Event | None:
        """The next event, or None when none came in time."""
        self._watch_thread()
        try:
            event, packet_id = self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if packet_id:
            self._client.ack(packet_id, QOS)
        return event

    def close(self) -> None:
        """Say goodbye (the will is then not published) and end the connection."""
        self._started = False
        self._client.disconnect()
        self._client.loop_stop()
        self._client.release()

    def _watch_thread(self) -> None:
        if not self._started or not self._client.ended:
            return
        self._enqueue(Disconnected(reason="the network thread has stopped; it is started again"))
        broker = self._broker
        self._client.connect_async(broker.host, broker.port, broker.keepalive_s)
        self._client.loop_start()

    def _spread_reconnects(self) -> None:
        """Devices that lost one broker must not all come back in the same second."""
        shortest, longest = self._reconnect_s
        spread = random.randint(0, longest // 4)  # noqa: S311 (no secret)
        self._client.reconnect_delay_set(shortest, max(shortest, longest - spread))

    def _enqueue(self, event: Event, packet_id: int = 0) -> None:
        try:
            self._events.put_nowait((event, packet_id))
        except queue.Full:  # not acknowledged: a broker with a session sends it again
            logger.error("%d events wait: %s is lost", EVENTS_KEPT, type(event).__name__)

    def _on_connect(
        self, client: paho.Client, userdata: object, flags: paho.ConnectFlags, reason: ReasonCode,
        properties: object,
    ) -> None:  # fmt: skip
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            for topic_filter in self._filters:
                client.subscribe(topic_filter, QOS)
            self._enqueue(Connected(resumed=flags.session_present))
        self._answered.set()

    def _on_disconnect(
        self, client: paho.Client, userdata: object, flags: paho.DisconnectFlags,
        reason: ReasonCode, properties: object,
    ) -> None:  # fmt: skip
        self._enqueue(Disconnected(reason=self._refusal or str(reason)))

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.warning("a topic that is not UTF-8 is ignored")
            client.ack(message.mid, message.qos)
            return
        received = Received(topic=topic, payload=bytes(message.payload), retained=message.retain)
        self._enqueue(received, message.mid if message.qos else 0)

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
