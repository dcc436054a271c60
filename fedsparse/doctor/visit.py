"""One visit to a broker: what it grants, and what it lets us say and hear.

Sessions outlive it: what a broker keeps for us is not acknowledged, and so delivered again to whom
it is for. A payload that is published is empty, which every end of the contract passes over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fedsparse.errors import TransportError
from fedsparse.transport.base import Received, topic_matches
from fedsparse.transport.config import BrokerConfig
from fedsparse.transport.connection import Connection, Greeting, Hello, Unanswered
from fedsparse.transport.mqtt import VERSIONS, read_password

if TYPE_CHECKING:
    import ssl

PATIENCE_S: Final = 10.0
SYSTEM_VERSION: Final = "$SYS/broker/version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What to do there.

    Attributes:
        client_id: who comes; some brokers put the certificate's name in its place.
        says: topics on which an empty payload is published.
        hears: filters to subscribe to.
        clean: whether a session of this client id is to be forgotten, before and after.
    """

    client_id: str
    says: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    clean: bool = False


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was found there.

    Attributes:
        version: of MQTT.
        greeting: what the broker grants.
        refused: of what we said, topic -> why the broker does not take it.
        taken: what it took, as far as MQTT tells: before version 5 a refusal looks like this, too.
        heard: topic -> payload.
        ended: why the connection ended before all was answered; empty where it did not.
    """

    version: str
    greeting: Greeting | None = None
    refused: dict[str, str] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    heard: dict[str, bytes] = field(default_factory=dict)
    ended: str = ""

    def hears(self, topic_filter: str) -> bool:
        """Whether anything came that matches."""
        return any(topic_matches(topic_filter, topic) for topic in self.heard)


def visit(
    broker: BrokerConfig, tls: ssl.SSLContext | None, errand: Errand, patience_s: float = PATIENCE_S
) -> Findings:
    """Go there in the newest version of MQTT that the broker speaks, and come back.

    Raises:
        TransportError: the broker refuses us, and why.
        ConfigError: the password's file is at fault.
    """
    versions = VERSIONS if broker.protocol == "auto" else (broker.protocol,)
    for version in versions:
        try:
            return _Visit(broker, tls, errand, version, patience_s).make()
        except Unanswered:
            if version == versions[-1]:
                raise
    raise AssertionError(versions)


class _Visit:
    """One visit in one version; a `Listener`."""

    def __init__(
        self,
        broker: BrokerConfig,
        tls: ssl.SSLContext | None,
        errand: Errand,
        version: str,
        patience_s: float,
    ) -> None:
        hello = Hello(
            client_id=errand.client_id,
            will=None,
            clean_session=errand.clean,
            password=read_password(broker),
            version=version,
            timeout_s=patience_s,
            answer_s=patience_s / 2,
        )
        self._errand, self._patience_s = errand, patience_s
        self._found = Findings(version=version)
        self._said: dict[int, str] = {}
        self._connection = Connection(broker, hello, tls, self)

    def make(self) -> Findings:
        """Be there until all is answered, or for long enough."""
        alarm = threading.Timer(2 * self._patience_s, self._connection.cut)
        alarm.daemon = True
        alarm.start()
        try:
            reason = self._connection.live()
        finally:
            alarm.cancel()
            self._connection.release()
        if self._found.greeting is None:
            raise TransportError(f"the broker did not answer within {2 * self._patience_s:g} s")
        if self._said:
            self._found.ended = reason
        return self._found

    def opened(self, connection: Connection, greeting: Greeting) -> None:
        """What is retained for us comes before the answers to what we say."""
        self._found.greeting = greeting
        for topic_filter in self._errand.hears:
            connection.subscribe(topic_filter)
        for topic in self._errand.says:
            self._said[connection.publish(topic, b"", retain=False)] = topic
        if not self._said:
            connection.leave()

    def came(self, connection: Connection, received: Received, packet_id: int) -> None:
        """It is not acknowledged: that is for whom it was sent to."""
        self._found.heard[received.topic] = received.payload

    def taken(self, connection: Connection, packet_id: int, refused: str) -> None:
        """The broker has answered."""
        topic = self._said.pop(packet_id, "")
        if refused:
            self._found.refused[topic] = refused
        else:
            self._found.taken.append(topic)
        if not self._said:
            connection.leave()
