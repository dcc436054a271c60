"""One connection to a broker with paho (https://eclipse.dev/paho/), from its dial to its end.

paho's callbacks run on the thread that is in `Connection.live`; long work in one would starve the
keepalive, so a listener only notes what it is told. A connection is used once: what is still to be
sent when it ends is its owner's to send on the next one.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedsparse.errors import TransportError
from fedsparse.transport.base import Received, Will
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.dial import HANDSHAKE, Dial

if TYPE_CHECKING:
    import ssl

QOS: Final = 1
LOOP_S: Final = 1.0  # a turn of paho's loop waits so long at most
SESSION_S: Final = 7 * 24 * 3600  # so long a broker of MQTT 5 keeps what comes while we are away
MOST_RECEIVED_BYTES: Final = 2 * 1024 * 1024  # no packet of the contract is larger
NO_LIMIT: Final = 65_535  # payloads in flight, where a broker of MQTT 5 names no number
UNSUPPORTED_VERSION: Final = 0x84
UNSPECIFIED: Final = "Unspecified error"  # what paho says where it does not know
BAD_LOGIN: Final = ("Bad user name or password", "Not authorized")
logger = logging.getLogger(__name__)


class Unanswered(TransportError):
    """The connection stood, and ended before the broker had answered in this version of MQTT."""


class VersionRefused(Unanswered):
    """The broker says that it does not speak this version of MQTT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """How we present ourselves.

    Attributes:
        client_id: unique at the broker.
        will: what to publish when we vanish.
        clean_session: whether the broker forgets us when we disconnect.
        password: for the configured username.
        version: of MQTT, `5` or `3.1.1`.
        timeout_s: for every step up to the broker's answer; `answer_s` for this.
    """

    client_id: str
    will: Will | None
    clean_session: bool
    password: str | None
    version: str
    timeout_s: float
    answer_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The broker's answer.

    Attributes:
        resumed: whether it had kept our session.
        packet_bytes: the largest packet that it takes, or None where it does not say.
        in_flight: how many payloads it takes before it has acknowledged the first; likewise.
        retains: whether it keeps payloads for whoever comes later.
        quality: the highest QoS that it speaks.
    """

    resumed: bool
    packet_bytes: int | None
    in_flight: int | None
    retains: bool
    quality: int


class Listener(Protocol):
    """Is told what happens, on the connection's thread."""

    def opened(self, connection: Connection, greeting: Greeting) -> None:
        """The broker has accepted us: subscribe and publish from now on."""
        ...

    def came(self, connection: Connection, received: Received, packet_id: int) -> None:
        """A payload; it is to be acknowledged unless `packet_id` is 0."""
        ...

    def taken(self, connection: Connection, packet_id: int, refused: str) -> None:
        """The broker has done with a payload; `refused` says why it did not take it."""
        ...


class _NoTls:
    """What paho names of `ssl` on a plain connection, where a process did without the module."""

    class SSLWantReadError(OSError):
        """Never raised."""

    class SSLWantWriteError(OSError):
        """Never raised."""


if getattr(paho, "ssl", None) is None:  # a device leaves it out: edge_client/lean.py
    paho.ssl = _NoTls  # type: ignore[attr-defined, assignment]


class _Client(paho.Client):
    """paho's client, on sockets that somebody else opens."""

    owner: Connection

    def _create_socket(self) -> paho.SocketLike:
        return self.owner.open_socket()

    def limit_in_flight(self, payloads: int) -> None:
        """Before the first payload; paho's own setter wants it before the broker has named it."""
        self._max_inflight_messages = payloads

    def release(self) -> None:
        """Leave nothing to the garbage collector: neither sockets nor payloads."""
        self._reset_sockets()
        self.on_connect = self.on_disconnect = self.on_message = self.on_publish = None
        self.on_socket_close = None
        del self.owner


class _Errors:
    """Listens to paho's log for the errors that it does not tell otherwise."""

    def __init__(self) -> None:
        self.last: OSError | None = None

    def log(self, level: int, text: str, *values: object) -> None:
        """As a logger; nothing is formatted."""
        for value in values:
            if isinstance(value, OSError):
                self.last = value


class Connection:
    """One connection; only `live` blocks.

    Args:
        broker: where it is.
        hello: who we are.
        tls: what secures it; None where nothing does.
        listener: is told what happens.

    Attributes:
        beat_s: when a turn of its loop began (monotonic).
        open: whether the broker has accepted us, and the connection stands.
        taken: ids of packets that the broker has done with; for its owner to clear.
    """

    def __init__(
        self, broker: BrokerConfig, hello: Hello, tls: ssl.SSLContext | None, listener: Listener
    ) -> None:
        self.open = False
        self.taken: set[int] = set()
        self._broker, self._hello, self._tls, self._listener = broker, hello, tls, listener
        self._errors = _Errors()
        self._refusal: ReasonCode | None = None
        self._dialled_s = 0.0
        self._reason = ""
        self._answered = self._over = False
        self._dial = Dial(broker, tls, hello.timeout_s)
        self.beat_s = time.monotonic()
        self._client = self._make_client()

    @property
    def silent_s(self) -> float:
        """How long it has shown nothing: seconds without a step or a turn."""
        return time.monotonic() - max(self.beat_s, self._dial.beat_s)

    @property
    def stage(self) -> str:
        """What it is at, for people."""
        return "connected" if self.open else self._dial.stage

    @property
    def version(self) -> str:
        """Of MQTT."""
        return self._hello.version

    def live(self) -> str:
        """Connect, and serve the connection until it ends; returns why it did.

        Raises:
            Unanswered: it ended before the broker had answered.
            TransportError: there is no broker, or it refuses us.
        """
        try:
            self._connect()
            while not self._over and self._turn() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
        finally:
            self.open = False
        if not self._answered or self._refusal:
            raise self._failure()
        return self._reason or "the broker ended it without a word"

    def subscribe(self, topic_filter: str) -> None:
        """Ask for what matches."""
        self._client.subscribe(topic_filter, QOS)

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        """Send a payload; returns its packet id."""
        return self._client.publish(topic, payload, QOS, retain).mid

    def acknowledge(self, packet_id: int) -> None:
        """A payload that came on this connection has been dealt with."""
        self._client.ack(packet_id, QOS)

    def leave(self) -> None:
        """Say goodbye when all that was sent has gone out."""
        self._client.disconnect()

    def cut(self) -> None:
        """Break off, whatever it is at; a thread that waits for the socket comes free."""
        self._over = True
        self._dial.give_up()

    def release(self) -> None:
        """When `live` is over, and nobody else uses the connection: close every socket."""
        self._client.release()

    def open_socket(self) -> paho.SocketLike:
        """For paho: what it speaks MQTT on.

        Raises:
            OSError: there is no connection, or it was given up.
        """
        return cast("paho.SocketLike", self._dial.open())

    def _make_client(self) -> _Client:
        hello = self._hello
        newest = hello.version == "5"
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=hello.client_id,
            clean_session=None if newest else hello.clean_session,
            protocol=MQTTProtocolVersion.MQTTv5 if newest else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.owner = self
        if self._broker.username:
            client.username_pw_set(self._broker.username, hello.password)
        if hello.will is not None:
            client.will_set(hello.will.topic, hello.will.payload, QOS, hello.will.retain)
        client.limit_in_flight(0)  # the channel paces its chunks; others overtake them
        client.enable_logger(cast("logging.Logger", self._errors))
        client.on_socket_register_write = _wake  # only `live` writes to the socket
        client.on_socket_close = self._on_socket_close
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _connect(self) -> None:
        broker, hello = self._broker, self._hello
        properties = None
        if hello.version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if hello.clean_session else SESSION_S
            properties.MaximumPacketSize = MOST_RECEIVED_BYTES
        self._client.connect_async(
            broker.host,
            broker.port,
            broker.keepalive_s,
            clean_start=hello.clean_session,
            properties=properties,
        )
        try:
            self._client.reconnect()
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that cannot be a name
            raise TransportError(self._no_connection(error)) from error
        self._dialled_s = time.monotonic()

    def _turn(self) -> MQTTErrorCode:
        waited_s = time.monotonic() - self._dialled_s
        if not self._answered and waited_s > self._hello.answer_s:
            raise Unanswered(
                f"the broker at {self._broker.address} refuses us: it accepts the connection, but "
                f"does not speak MQTT {self.version}; correct host and port in the table [broker], "
                "or leave out `protocol`"
            )
        self.beat_s = time.monotonic()
        return self._client.loop(LOOP_S if self._answered else min(LOOP_S, self._hello.answer_s))

    def _no_connection(self, error: Exception) -> str:
        if self._dial.stage == HANDSHAKE:
            from fedsparse.transport.tls_faults import explain

            return f"no secure connection: {explain(error, self._broker)}"
        return (
            f"no broker at {self._broker.address}: {error}; start one with `fedsparse broker`, or "
            "correct host and port in the table [broker]"
        )

    def _failure(self) -> TransportError:
        address = self._broker.address
        if self._refusal is None:
            return Unanswered(f"the broker at {address} refuses us: {self._silence()}")
        text = f"the broker at {address} refuses us: {self._refusal}"
        if self._refusal.value == UNSUPPORTED_VERSION:
            return VersionRefused(f"{text}; set `protocol` in the table [broker] to another one")
        if str(self._refusal) in BAD_LOGIN:
            text += "; check username and password_file in the table [broker]"
        return TransportError(text)

    def _silence(self) -> str:
        if self._tls is not None:
            from fedsparse.transport.tls_faults import explain_silence

            return explain_silence(self._errors.last, self._broker)
        return (
            "it ends the connection without a word; if this is its port for TLS, set [broker.tls], "
            "else correct host and port in the table [broker]"
        )

    def _on_connect(
        self, client: paho.Client, userdata: object, flags: paho.ConnectFlags, reason: ReasonCode,
        properties: Properties | None,
    ) -> None:  # fmt: skip
        self._answered = True
        if reason.is_failure:
            self._refusal = reason
            self._over = True
            return
        if self._hello.version == "5":
            self._client.limit_in_flight(getattr(properties, "ReceiveMaximum", NO_LIMIT))
        self.open = True
        self._listener.opened(
            self,
            Greeting(
                resumed=flags.session_present,
                packet_bytes=getattr(properties, "MaximumPacketSize", None),
                in_flight=getattr(properties, "ReceiveMaximum", None),
                retains=bool(getattr(properties, "RetainAvailable", True)),
                quality=getattr(properties, "MaximumQoS", 2),
            ),
        )

    def _on_socket_close(
        self, client: paho.Client, userdata: object, socket: paho.SocketLike
    ) -> None:
        """A broker that refused our certificate may be gone before we write, and has said why."""
        if self._tls is not None and not self._answered:
            try:
                socket.recv(1)
            except OSError as error:
                if "ALERT" in (getattr(error, "reason", None) or ""):
                    self._errors.last = error

    def _on_disconnect(
        self, client: paho.Client, userdata: object, flags: paho.DisconnectFlags,
        reason: ReasonCode, properties: Properties | None,
    ) -> None:  # fmt: skip
        self._over = True
        self.open = False
        if flags.is_disconnect_packet_from_server:
            self._reason = f"the broker ended it: {reason}"
        elif self._errors.last is not None:
            self._reason = f"it broke off: {self._errors.last}"
        elif str(reason) != UNSPECIFIED:
            self._reason = f"it broke off: {reason}"

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        packet_id = message.mid if message.qos else 0
        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.warning("a topic that is not UTF-8 is ignored")
            client.ack(packet_id, message.qos)
            return
        payload = bytes(message.payload)
        received = Received(topic=topic, payload=payload, retained=message.retain)
        self._listener.came(self, received, packet_id)

    def _on_publish(
        self, client: paho.Client, userdata: object, mid: int, reason: ReasonCode,
        properties: Properties | None,
    ) -> None:  # fmt: skip
        self.taken.add(mid)
        self._listener.taken(self, mid, str(reason) if reason.is_failure else "")


def _wake(*_: object) -> None:
    """The loop is woken by paho itself; that there is a callback keeps others from writing."""
