"""The process that lets devices in: at the enrolment broker it answers who asks for certificates.

It also renews, daily, what would otherwise run out (aggregator/identity/upkeep.py).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aggregator.events import Diary
from aggregator.identity.enrolling import EnrolmentDesk, Place, Reply
from aggregator.identity.fleet import Fleet
from aggregator.identity.moment import to_ms, utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.publishing import publish
from aggregator.identity.running import reload_brokers
from aggregator.identity.upkeep import add_role, keep_fresh
from fedsparse.errors import FedSparseError, StoreError, TransportError
from fedsparse.transport.base import Connected, Disconnected, Received, Transport
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.mqtt import MqttTransport
from fedsparse.wire.enrolment import AUTHORITY_TOPIC, REQUESTS

log = logging.getLogger("identity")

ROLE: Final = Role(duty=Duty.IDENTITY)
TURN_S: Final = 1.0
UPKEEP_S: Final = 3600.0  # it does only what is due
HOST: Final = "localhost"  # it stands in every broker's certificate


class IdentityService:
    """Answers requests until it is stopped.

    Args:
        fleet: whose devices.
        transport: to the enrolment broker, not started.
        diary: told who came in and who did not.
    """

    def __init__(self, fleet: Fleet, transport: Transport, diary: Diary) -> None:
        self._fleet = fleet
        self._transport = transport
        place = Place(
            site=fleet.config.site, host=fleet.config.hosts[0], port=fleet.config.broker.port
        )
        self._desk = EnrolmentDesk(fleet.authority, fleet.store, place, diary)
        self._upkeep_s: float | None = None

    def start(self) -> None:
        """Connect.

        Raises:
            TransportError: the enrolment broker is not there, or refuses us.
        """
        self._transport.subscribe(REQUESTS)
        self._transport.start()

    def step(self, timeout_s: float = TURN_S) -> None:
        """Deal with what comes next, and with what is due."""
        self._keep_fresh()
        event = self._transport.receive(timeout_s)
        if isinstance(event, Connected):  # it keeps nothing when it is started again
            self._transport.publish(
                AUTHORITY_TOPIC, self._fleet.authority.certificate_der, retain=True
            )
            log.info("enrolment=open fingerprint=%s", self._fleet.authority.fingerprint)
        elif isinstance(event, Disconnected):
            log.warning("enrolment=closed reason=%r", event.reason)
        elif isinstance(event, Received):
            self._received(event)

    def close(self) -> None:
        """Say goodbye."""
        self._transport.close()

    def _received(self, event: Received) -> None:
        try:
            reply = self._desk.answer(
                event.topic, event.payload, now_ms=to_ms(utc_now()), now_s=time.monotonic()
            )
            if reply is not None:
                self._send(reply)
        except (StoreError, TransportError) as error:  # it asks again
            log.error("not_answered=%r", str(error))

    def _send(self, reply: Reply) -> None:
        if reply.returned:
            self._let_in_again()
        self._transport.publish(reply.topic, reply.payload)

    def _let_in_again(self) -> None:
        """The broker denies everything to a device that was revoked, until it is told otherwise."""
        try:
            with self._fleet.alone():
                publish(self._fleet, utc_now())
                reload_brokers(self._fleet)
        except (FedSparseError, OSError) as error:
            log.error("broker=not_told reason=%r; start it again", str(error))

    def _keep_fresh(self) -> None:
        now_s = time.monotonic()
        if self._upkeep_s is not None and now_s - self._upkeep_s < UPKEEP_S:
            return
        self._upkeep_s = now_s
        try:
            for what in keep_fresh(self._fleet, utc_now()):
                log.info("renewed=%r", what)
        except (FedSparseError, OSError) as error:
            log.error("upkeep=%r", str(error))


def open_service(fleet: Fleet, diary: Diary) -> IdentityService:
    """The service of a fleet, with a certificate of its own.

    Raises:
        ConfigError: a file of the fleet is at fault.
    """
    certificate = fleet.role_file(ROLE)
    if not certificate.exists():
        add_role(fleet, ROLE, utc_now())
    broker = BrokerConfig(
        host=HOST,
        port=fleet.config.enrolment.service_port,
        tls=TlsConfig(ca=fleet.enrolment.authority, certificate=certificate, key=certificate),
    )
    # Strangers come to this broker under ids of their choice: who knew ours could throw us off.
    client_id = secrets.token_hex(16)
    transport = MqttTransport(broker, client_id=client_id, clean_session=True)
    return IdentityService(fleet, transport, diary)


def run(service: IdentityService, still_there: Callable[[], None]) -> None:
    """Answer until a signal comes.

    Args:
        service: not started.
        still_there: raises once the broker that was started for it has ended.

    Raises:
        TransportError: there is no enrolment broker.
    """
    service.start()
    try:
        while True:
            still_there()
            service.step()
    finally:
        with suppress(FedSparseError):
            service.close()
