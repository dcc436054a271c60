"""What the broker grants to the gateway; never in the name of an aggregator that runs."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from aggregator.identity.fleet import Fleet
from aggregator.identity.joining import HOST
from aggregator.identity.moment import utc_now
from aggregator.identity.names import Duty, Role
from aggregator.identity.publishing import list_is_whole, rules_are_current
from aggregator.job import JobConfig
from fedsparse.doctor.dates import certificate_row, clock_row
from fedsparse.doctor.grants import feature_rows, permission_rows
from fedsparse.doctor.network import network_rows, reached
from fedsparse.doctor.row import Row, fault, ok, warn
from fedsparse.doctor.visit import SYSTEM_VERSION, Errand, Findings, visit
from fedsparse.errors import FedSparseError, RemoteProtocolError
from fedsparse.transport.base import topic_matches
from fedsparse.transport.config import BrokerConfig, TlsConfig
from fedsparse.transport.tls import open_context
from fedsparse.wire.headers import decode_message
from fedsparse.wire.messages import Status
from fedsparse.wire.topics import ROOT, Branch, Topics

NOBODY: Final = "doctor"  # a device of this name would get empty payloads, and pass them over
NO_TRANSFER: Final = 64 * "0"
GRANT: Final = (
    "let the aggregator read `{base}/up/#` and write `{base}/down/#` and `{base}/all/#` in the "
    "broker's access file (docs/broker.md)"
)


def job_broker_rows(job: JobConfig, *, busy: bool) -> Iterator[Row]:
    """The connection of a job that is in no fleet of this machine."""
    now_s = time.time()
    yield clock_row(now_s, 0.0)
    if job.broker.tls is not None and job.broker.tls.certificate is not None:
        path = job.broker.tls.certificate
        yield certificate_row("certificate", path, now_s, "have another one made")
    steps = list(network_rows(job.broker, now_s, 0.0))
    yield from steps
    if not reached(steps):
        yield warn("mqtt", "not tried: there is no connection", "mend what failed above")
    elif busy:
        yield ok("mqtt", "not tried: the aggregator runs, and would be thrown off")
    else:
        yield from _gateway_rows(job, job.broker)


def fleet_broker_rows(fleet: Fleet, job: JobConfig | None) -> Iterator[Row]:
    """The connection to a fleet's broker.

    Args:
        fleet: open.
        job: one of it whose aggregator does not run; None: only the doctor comes.
    """
    yield _rules_row(fleet)
    doctor = fleet.role_file(Role(duty=Duty.DOCTOR))
    tls = TlsConfig(ca=fleet.broker.authority)
    if doctor.exists():
        tls = TlsConfig(ca=fleet.broker.authority, certificate=doctor, key=doctor)
    broker = BrokerConfig(host=HOST, port=fleet.config.broker.port, tls=tls)
    now_s = time.time()
    yield clock_row(now_s, 0.0)
    if not doctor.exists():
        yield warn(
            "doctor",
            "it has no certificate, so the broker cannot be looked at",
            f"fedsparse identity issue doctor --fleet {fleet.folder}",
        )
        return
    steps = list(network_rows(broker, now_s, 0.0))
    yield from steps
    if not reached(steps):
        yield warn("mqtt", "not tried: there is no connection", "mend what failed above")
        return
    yield from _doctor_rows(fleet, broker)
    if job is None:
        return
    role = fleet.role_file(Role(duty=Duty.GATEWAY, job=job.name))
    if role.exists():
        own = replace(broker, tls=TlsConfig(ca=fleet.broker.authority, certificate=role, key=role))
        yield from _gateway_rows(job, own)
    else:
        yield ok("may write", f"the job gets {role} at its first start")


def _rules_row(fleet: Fleet) -> Row:
    now = utc_now()
    if rules_are_current(fleet, now) and list_is_whole(fleet, now):
        return ok("access rules", "what the broker reads is what the store says")
    return warn(
        "access rules",
        "what the broker reads is not what fleet.toml and the store say",
        f"fedsparse identity crl --fleet {fleet.folder}",
    )


def _doctor_rows(fleet: Fleet, broker: BrokerConfig) -> Iterator[Row]:
    """In the doctor's own name, which throws nobody off."""
    statuses = f"{ROOT}/{fleet.config.site}/up/+/status"
    errand = Errand(
        client_id=Role(duty=Duty.DOCTOR).common_name,
        says=(f"{ROOT}/{fleet.config.site}/{NOBODY}",),  # nobody listens; the answer is waited for
        hears=(statuses, SYSTEM_VERSION),
        clean=True,
    )
    try:
        found = visit(broker, _context(broker), errand)
    except FedSparseError as error:
        yield fault("mqtt", error, "see the broker's log")
        return
    yield from feature_rows(broker, found)
    yield _version_row(found)
    yield _devices_row(found, statuses)


def _gateway_rows(job: JobConfig, broker: BrokerConfig) -> Iterator[Row]:
    """In the name of the job's aggregator, which does not run."""
    topics = Topics(job.site)
    errand = Errand(
        client_id=f"gateway/{job.site}/{job.name}",
        says=(
            topics.round,
            topics.message(Branch.DOWN, NOBODY),
            topics.chunk(Branch.DOWN, NOBODY, NO_TRANSFER, 0),
        ),
        hears=topics.gateway_filters(),
    )
    try:
        found = visit(broker, _context(broker), errand)
        if found.greeting is not None and not found.greeting.resumed:
            visit(broker, _context(broker), replace(errand, hears=(), clean=True))
    except FedSparseError as error:
        yield fault("mqtt", error, "correct [broker]")
        return
    if job.fleet is None:
        yield from feature_rows(broker, found)
        yield _devices_row(found, errand.hears[0])
    yield from permission_rows(errand, found, GRANT.format(base=f"{ROOT}/{job.site}"))


def _version_row(found: Findings) -> Row:
    version = found.heard.get(SYSTEM_VERSION, b"").decode(errors="replace")
    return ok("version", version or "the broker does not tell it to us")


def _devices_row(found: Findings, statuses: str) -> Row:
    """Who the broker says is there."""
    known = [load for topic, load in found.heard.items() if topic_matches(statuses, topic) and load]
    online = sum(map(_is_online, known))
    return ok("devices", f"{len(known)} have come so far, {online} online")


def _is_online(payload: bytes) -> bool:
    try:
        message, _ = decode_message(payload)
    except RemoteProtocolError:
        return False
    return isinstance(message, Status) and message.online


def _context(broker: BrokerConfig) -> ssl.SSLContext | None:
    return None if broker.tls is None else open_context(broker.tls, now_s=time.time())
