"""MQTT 5 or 3.1.1 over TCP or TLS: a connection that comes back, and what outlives it.

A network thread serves one connection after the other (connection.py), with growing pauses between
them; all that it does here is to note what happens. A payload is acknowledged when the consumer
asks for the next event: it has then done with it what it wanted to, on the disk too. So one that
dies over a payload is given it again, and a slow one is spared by the broker's in-flight limit
instead of filling its own memory. `receive` watches the thread: one that has died, or hangs in the
look-up of a name or in a handshake, is left behind, and another takes its place.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fedsparse.errors import ConfigError, FedSparseError, TransportError
from fedsparse.transport.backoff import Backoff
from fedsparse.transport.base import (
    Connected,
    Disconnected,
    Event,
    Received,
    Will,
    check_packet_bytes,
)
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.connection import Connection, Greeting, Hello, Unanswered, VersionRefused
from fedsparse.transport.outgoing import Outgoing

if TYPE_CHECKING:
    import ssl

EVENTS_KEPT: Final = 8_192
GOODBYE_S: Final = 2.0
LOOK_S: Final = 1.0
VERSIONS: Final = ("5", "3.1.1")  # in the order in which `auto` tries them
PROBE_S: Final = 3.0  # some brokers take MQTT 5 for a packet that goes on, and wait for the rest
FAULT: Final = "the network thread met a fault of its own"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Taken:
    """The broker has done with a packet; the consumer knows which payload that was."""

    connection: Connection
    packet_id: int
    refused: str


@dataclass(slots=True, eq=False)
class _Line:
    """A network thread, and what it is at."""

    thread: threading.Thread | None = None
    connection: Connection | None = None  # None while it waits between two
    over: threading.Event = field(default_factory=threading.Event)
    settled: threading.Event = field(default_factory=threading.Event)  # of the first attempt
    failure: Exception | None = None


_Receipt = tuple[Connection, int]
_Queued = tuple[Event | _Taken, _Receipt | None]


class MqttTransport:
    """A connection to a real broker.

    Args:
        broker: where it is.
        client_id: unique at the broker: a second client of this name evicts the first.
        will: what to publish when we vanish.
        clean_session: whether the broker forgets us when we disconnect.
        connect_timeout_s: for each step of connecting, up to the broker's answer.
        reconnect_s: about the first pause between attempts to reconnect, and the longest.
        rng: draws the pauses.
        hang_s: a network thread that shows nothing for so long hangs; by default twice the
            keepalive, or three times `connect_timeout_s` where that is more.
        clock_floor_s: a moment that has passed, in seconds since 1970: a system clock that is
            before it is not believed (transport/tls.py).

    Raises:
        ConfigError: a file that [broker] or [broker.tls] names is at fault.
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
        hang_s: float | None = None,
        clock_floor_s: float = 0.0,
    ) -> None:
        self._broker = broker
        self._client_id, self._will, self._clean_session = client_id, will, clean_session
        self._password = read_password(broker)
        self._timeout_s = connect_timeout_s
        self._hang_s = hang_s or max(2.0 * broker.keepalive_s, 3 * connect_timeout_s)
        self._clock_floor_s = clock_floor_s
        self._backoff = Backoff(
            *reconnect_s,
            rng=rng or random.Random(),  # noqa: S311 (no secret)
            clock=time.monotonic,
        )
        self._version = None if broker.protocol == "auto" else broker.protocol  # None: not known
        self._events: queue.Queue[_Queued] = queue.Queue()
        self._handed_out: list[_Receipt] = []
        self._dropped = False
        self._lock = threading.Lock()  # of what follows: both threads publish
        self._filters: list[str] = []
        self._outgoing = Outgoing()
        self._packet_bytes = broker.max_packet_bytes
        self._line: _Line | None = None
        self._open: Connection | None = None
        self._context()  # files that are at fault are to be told at once

    def start(self) -> None:
        """Connect, and stay connected until `close`.

        Raises:
            TransportError: the broker cannot be reached now, or refuses us.
            ConfigError: a file that [broker.tls] names is at fault.
        """
        line = self._begin(first=True)
        trouble = ""
        while not trouble and not line.settled.wait(min(LOOK_S, self._hang_s)):
            trouble = self._trouble(line)
        failure = line.failure
        if trouble:
            failure = TransportError(f"no connection to {self._broker.address}: {trouble}")
        if failure is not None:
            self.close()
            raise failure

    def subscribe(self, topic_filter: str) -> None:
        """Receive what matches `topic_filter`, on this connection and every later one."""
        with self._lock:
            if topic_filter not in self._filters:
                self._filters.append(topic_filter)
                if self._open is not None:
                    self._open.subscribe(topic_filter)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Hand over a payload; returns the handle that its `Published` will carry.

        Raises:
            TransportError: too many payloads wait for the broker already.
            LocalProtocolError: the packet is larger than the broker takes.
        """
        with self._lock:
            check_packet_bytes(topic, len(payload), self._packet_bytes)
            handle = self._outgoing.put(topic, payload, retain=retain)
            if self._open is not None:
                self._outgoing.send(handle, self._open)
            return handle

    def receive(self, timeout_s: float, *, hold: bool = False) -> Event | None:
        """The next event, or None when none came in time.

        The ones before are then acknowledged, unless held.
        """
        self._watch()
        if not hold:
            self._acknowledge()
        end_s = time.monotonic() + timeout_s
        while True:
            try:
                event, receipt = self._events.get(timeout=max(0.0, end_s - time.monotonic()))
            except queue.Empty:
                self._ask_again()
                return None
            if not isinstance(event, _Taken):
                if receipt is not None:
                    self._handed_out.append(receipt)
                return event
            with self._lock:
                done = self._outgoing.done(event.connection, event.packet_id, event.refused)
            if done is not None:  # else it was sent on a later connection, too
                return done

    def close(self) -> None:
        """Say goodbye (the will is then not published) and end the connection.

        What was handed out last is not acknowledged: its consumer may have failed over it.
        """
        with self._lock:
            line, self._line, opened, self._open = self._line, None, self._open, None
            if opened is not None:
                opened.leave()
        if line is None or line.thread is None:
            return
        line.over.set()
        if opened is None:
            _cut(line)
        line.thread.join(GOODBYE_S)
        _cut(line)

    def opened(self, connection: Connection, greeting: Greeting) -> None:
        """The network thread: the broker has accepted us."""
        with self._lock:
            if self._line is None or self._line.connection is not connection:
                connection.leave()
                return
            self._backoff.connected()
            self._version = connection.version
            self._open = connection
            limits = (greeting.packet_bytes, self._broker.max_packet_bytes)
            self._packet_bytes = min((one for one in limits if one is not None), default=None)
            self._put(Connected(resumed=greeting.resumed, packet_bytes=self._packet_bytes))
            for topic_filter in self._filters:
                connection.subscribe(topic_filter)
            for one in self._outgoing.send_again(connection, self._packet_bytes):
                logger.error("not_sent=%r", one.refused)
                self._put(one)
            self._line.settled.set()

    def came(self, connection: Connection, received: Received, packet_id: int) -> None:
        """The network thread: a payload has come."""
        if self._events.qsize() < EVENTS_KEPT:
            self._put(received, (connection, packet_id) if packet_id else None)
            return
        if not self._dropped:
            logger.error("%d events wait: payloads are left to the broker", EVENTS_KEPT)
        self._dropped = True

    def taken(self, connection: Connection, packet_id: int, refused: str) -> None:
        """The network thread: the broker has done with a payload."""
        self._put(_Taken(connection, packet_id, refused))

    def _put(self, event: Event | _Taken, receipt: _Receipt | None = None) -> None:
        self._events.put((event, receipt))

    def _acknowledge(self) -> None:
        """Of a connection that is gone nothing: the broker sends it again, or has forgotten us."""
        receipts, self._handed_out = self._handed_out, []
        with self._lock:
            for connection, packet_id in receipts:
                if connection is self._open:
                    connection.acknowledge(packet_id)

    def _ask_again(self) -> None:
        """All that came was dealt with: a new connection brings again what had to be dropped."""
        connection = self._open
        if self._dropped and connection is not None:
            self._dropped = False
            connection.cut()

    def _begin(self, *, first: bool = False) -> _Line:
        line = _Line()
        line.thread = threading.Thread(
            target=self._serve, args=(line, first), name=f"mqtt {self._client_id}", daemon=True
        )
        self._line = line
        line.thread.start()
        return line

    def _serve(self, line: _Line, first: bool) -> None:
        """The network thread: one connection after the other."""
        while not line.over.is_set():
            reason = FAULT
            try:
                reason = self._live(line)
            except Exception as error:
                if first and not line.settled.is_set():
                    line.failure = error
                    line.settled.set()
                    return
                if isinstance(error, FedSparseError):
                    reason = str(error)
                else:
                    logger.exception(FAULT)
            pause_s = self._backoff.next_pause_s()
            if not line.over.is_set():
                where = self._broker.address
                logger.info("broker=%s away=%r again_in=%.1f", where, reason, pause_s)
            line.over.wait(pause_s)

    def _live(self, line: _Line) -> str:
        """One connection, in the newest version of MQTT that the broker speaks; why it ended."""
        versions = VERSIONS if self._version is None else (self._version,)
        for version in versions:
            try:
                return self._live_in(version, line, probe=version != versions[-1])
            except Unanswered as error:
                if isinstance(error, VersionRefused) and self._broker.protocol == "auto":
                    self._version = None
                if version == versions[-1] or line.over.is_set():
                    raise
                logger.debug("MQTT %s: %s", version, error)
        raise AssertionError(versions)

    def _live_in(self, version: str, line: _Line, *, probe: bool) -> str:
        hello = Hello(
            client_id=self._client_id,
            will=self._will,
            clean_session=self._clean_session,
            password=self._password,
            version=version,
            timeout_s=self._timeout_s,
            answer_s=min(PROBE_S, self._timeout_s) if probe else self._timeout_s,
        )
        connection = Connection(self._broker, hello, self._context(), self)
        line.connection = connection
        reason = FAULT
        try:
            reason = connection.live()
        finally:
            with self._lock:
                line.connection = None
                connection.release()
                if self._open is connection:
                    self._open = None
                    self._put(Disconnected(reason=reason))
        return reason

    def _context(self) -> ssl.SSLContext | None:
        """Made anew for every connection: certificates are renewed, clocks are set."""
        if self._broker.tls is None:
            return None
        from fedsparse.transport.tls import open_context

        return open_context(self._broker.tls, now_s=time.time(), floor_s=self._clock_floor_s)

    def _watch(self) -> None:
        """Replace a network thread that has died or hangs."""
        line = self._line
        if line is None or not (trouble := self._trouble(line)):
            return
        logger.error("%s; another takes its place", trouble)
        line.over.set()
        with self._lock:
            if self._open is not None:
                self._put(Disconnected(reason=trouble))
            self._open = None
            self._begin()
        _cut(line)

    def _trouble(self, line: _Line) -> str:
        """Why its thread will not do its work any more; empty where it does."""
        connection = line.connection
        if line.thread is not None and not line.thread.is_alive():
            return "the network thread has died"
        if connection is not None and connection.silent_s > self._hang_s:
            return f"the network thread hangs at: {connection.stage}"
        return ""


def _cut(line: _Line) -> None:
    """End what a thread is at that nobody waits for any more."""
    if (connection := line.connection) is not None:
        connection.cut()


def read_password(broker: BrokerConfig) -> str | None:
    """The password for the configured username; None where there is none.

    Raises:
        ConfigError: its file cannot be read.
    """
    if broker.password_file is None:
        return None
    try:
        return broker.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[broker] password_file: {broker.password_file}: {error}") from error
