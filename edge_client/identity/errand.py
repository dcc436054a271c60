"""Short connections to the enrolment broker: to look who is there, and to ask for something.

They use paho directly and without its thread: a connection for one answer needs no more.
"""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from fedsparse.errors import RemoteProtocolError, TransportError
from fedsparse.wire.enrolment import (
    AUTHORITY_TOPIC,
    MAX_CERTIFICATE_BYTES,
    Answer,
    Claim,
    Outcome,
    answer_topic,
    decode_claim,
    new_request,
    request_topic,
)

QOS: Final = 1
KEEPALIVE_S: Final = 30
CONNECT_S: Final = 10.0
TURN_S: Final = 0.5
REPEAT_S: Final = 5.0  # without an answer
BUSY_S: Final = (8.0, 15.0)  # after "too many wrong codes"; drawn between
PATIENCE_S: Final = 120.0

Say = Callable[[str], None]


class RefusedError(TransportError):
    """The gateway does not grant what was asked for; it does not say why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where certificates are asked for."""

    host: str
    port: int

    def __str__(self) -> str:
        """For messages."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an unverified connection showed.

    Attributes:
        authority: the certificate (DER) that is said to be the authority's.
        broker: the broker's own (DER).
    """

    authority: bytes
    broker: bytes


class _Client(paho.Client):
    """paho's client, on sockets that are closed where their handshake fails."""

    desk: Desk
    context: ssl.SSLContext

    def _create_socket(self) -> paho.SocketLike:
        tcp = socket.create_connection((self.desk.host, self.desk.port), CONNECT_S)
        try:
            secured = self.context.wrap_socket(tcp, server_hostname=self.desk.host)
        except BaseException:
            tcp.close()
            raise
        return cast("paho.SocketLike", secured)

    def release(self) -> None:
        """Close every socket, for paho leaves some of them to the garbage collector."""
        self._reset_sockets()


class Errand:
    """One connection that listens to one topic; a lost one is made again.

    Args:
        desk: where to.
        context: what is verified.
        name: the client id.
        topic: what to listen to.

    Raises:
        TransportError: nobody is there, or not who it should be.
    """

    def __init__(self, desk: Desk, context: ssl.SSLContext, name: str, topic: str) -> None:
        self._desk = desk
        self._topic = topic
        self._came: deque[bytes] = deque()
        self._client = client = _Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv311
        )
        client.desk, client.context = desk, context
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        self._listening = False
        client.on_subscribe = self._on_subscribe

    def __enter__(self) -> Errand:
        try:
            self._client.connect(self._desk.host, self._desk.port, KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise TransportError(
                f"{self._desk} is not the broker of this authority: {error.verify_message}; if "
                "host and port in client.toml are right, somebody is in between, or the broker has "
                "no certificate for this name (`hosts` in fleet.toml, on the gateway)"
            ) from error
        except OSError as error:
            raise TransportError(
                f"no enrolment at {self._desk}: {error}; start `fedsparse identity serve` on the "
                "gateway, or correct host ([broker] in client.toml) and port (--port)"
            ) from error
        self._wait_until(lambda: self._listening, CONNECT_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.release()

    @property
    def certificate(self) -> bytes:
        """The broker's own (DER)."""
        link = self._client.socket()
        shown = link.getpeercert(binary_form=True) if isinstance(link, ssl.SSLSocket) else None
        return shown or b""

    def publish(self, topic: str, payload: bytes) -> None:
        """Say something."""
        self._client.publish(topic, payload, QOS)

    def receive(self, timeout_s: float) -> bytes | None:
        """What comes next on the topic; None where nothing does in time."""
        self._wait_until(lambda: bool(self._came), timeout_s)
        return self._came.popleft() if self._came else None

    def _wait_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition() and (left_s := end_s - time.monotonic()) > 0:
            if self._client.loop(min(TURN_S, left_s)) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._again(min(TURN_S, left_s))

    def _again(self, pause_s: float) -> None:
        time.sleep(pause_s)
        try:
            self._client.reconnect()
        except OSError:  # still away: the caller's patience decides
            return

    def _on_connect(
        self, client: paho.Client, userdata: object, flags: paho.ConnectFlags, reason: ReasonCode,
        properties: object,
    ) -> None:  # fmt: skip
        if not reason.is_failure:
            client.subscribe(self._topic, QOS)

    def _on_subscribe(
        self, client: paho.Client, userdata: object, mid: int, reasons: list[ReasonCode],
        properties: object,
    ) -> None:  # fmt: skip
        self._listening = True

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        self._came.append(bytes(message.payload))


def look(desk: Desk) -> Seen:
    """Fetch the authority's certificate without trusting anybody: nothing secret is sent.

    Raises:
        TransportError: nobody is there, or has no authority to show.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with Errand(desk, context, new_request(), AUTHORITY_TOPIC) as errand:
        authority = errand.receive(CONNECT_S)
        seen = Seen(authority=authority or b"", broker=errand.certificate)
    if not 0 < len(seen.authority) <= MAX_CERTIFICATE_BYTES or not seen.broker:
        raise TransportError(
            f"{desk} shows no authority: is `fedsparse identity serve` running there, and is this "
            "the port of enrolment?"
        )
    return seen


def ask(
    desk: Desk,
    context: ssl.SSLContext,
    encode: Callable[[str], bytes],
    check: Callable[[Claim], None],
    *,
    say: Say,
) -> Answer:
    """Send a request until its answer comes.

    Args:
        desk: where to.
        context: verifies the broker.
        encode: the request, for the topic on which it is published.
        check: raises `RemoteProtocolError` for a yes that is not the gateway's.
        say: told what takes time.

    Raises:
        RefusedError: the answer is no.
        TransportError: no answer, or the connection cannot be made.
    """
    request = new_request()
    payload, end_s = encode(request_topic(request)), time.monotonic() + PATIENCE_S
    doubt = ""
    with Errand(desk, context, request, answer_topic(request)) as errand:
        while time.monotonic() < end_s:
            errand.publish(request_topic(request), payload)
            try:
                answer = _answer(errand.receive(REPEAT_S), answer_topic(request), check)
            except RemoteProtocolError as error:
                doubt = f"; what came as an answer was not the gateway's ({error})"
                time.sleep(TURN_S)  # whoever sends that may send much
                continue
            if answer is None:
                say("no answer yet: asking again")
            elif answer.outcome is Outcome.RETRY:
                pause_s = random.uniform(*BUSY_S)  # noqa: S311 (no secret)
                say(f"the gateway sees too many wrong codes: asking again in {pause_s:.0f} s")
                time.sleep(pause_s)
            else:
                return answer
    raise TransportError(
        f"{desk} has not answered for {PATIENCE_S:.0f} s: is `fedsparse identity serve` running "
        f"there?{doubt}"
    )


def _answer(payload: bytes | None, topic: str, check: Callable[[Claim], None]) -> Answer | None:
    """What came; a yes is the gateway's, a no may be anybody's."""
    if payload is None:
        return None
    claim = decode_claim(topic, payload)
    if not isinstance(claim.message, Answer):
        raise RemoteProtocolError("no answer")
    if claim.message.outcome is Outcome.REFUSED:
        raise RefusedError("refused")
    if claim.message.outcome is Outcome.OK:
        check(claim)
    return claim.message
