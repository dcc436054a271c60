"""Throwing a device, or a process of the gateway, out of the fleet.

In this order, so that a crash in between leaves too little access rather than too much:

1. the store: its certificates are revoked, its tokens are gone;
2. the broker's files: it is denied everything, then the list of certificates;
3. the broker reads them. That is seen by a certificate which was made to be on this very list: when
   the broker refuses it, it has taken the list in;
4. its connection is ended: somebody else comes under its name, which takes the session over and
   empties it. A broker does not look at certificates again while a connection lasts;
5. its status, which its will can no longer change, becomes offline.

It is done again without harm: after a crash, or when the broker was down.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from aggregator.identity.fleet import Fleet
from aggregator.identity.issuing import note, serial_text
from aggregator.identity.keys import new_service_key
from aggregator.identity.moment import to_ms
from aggregator.identity.names import Duty, Role, device_name
from aggregator.identity.publishing import publish
from aggregator.identity.running import reload_brokers
from aggregator.identity.visit import Pass, RefusedError, Visit, context_for
from aggregator.store import certificates, devices, tokens
from fedsparse.errors import ConfigError, TransportError
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Status
from fedsparse.wire.topics import Topics

OPERATOR: Final = Role(duty=Duty.OPERATOR)
PASS_LIFE: Final = timedelta(minutes=5)
TAKEN_IN_S: Final = 15.0
PAUSE_S: Final = 0.05
_NOT_TAKEN_IN: Final = (
    "a broker listens on port {port} and still lets revoked certificates in: start it again, so "
    "that it reads its files, then repeat this; if `fedsparse broker` does not run it, set "
    "[broker] reload_command in fleet.toml"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What came of it.

    Attributes:
        certificates: how many were good before.
        in_force: the broker refuses them, and nobody is connected with one. False: no broker runs;
            it will read the files when it starts.
    """

    certificates: int
    in_force: bool


def revoke_device(fleet: Fleet, device: str, reason: str, now: datetime) -> Revocation:
    """Throw a device out; it can come back by enrolling anew.

    Raises:
        ConfigError: nobody knows such a device.
        TransportError: the store and the files say so, but the broker does not honour them; the
            message says why and what to do.
    """
    device_name(device)
    with fleet.store.writing() as db:
        known = devices.revoke(db, device)
        if not known and not certificates.of(db, device):
            raise ConfigError(f"no device is named {device!r}; `fedsparse identity list` shows all")
        _remove_tokens(db, device)
        count = certificates.revoke(db, device, reason=reason, now_ms=to_ms(now))
    key = Ed25519PrivateKey.generate()
    certificate = fleet.authority.issue_device(device, key.public_key(), now, life=PASS_LIFE)
    in_force = _enforce(fleet, Pass(certificate=certificate, key=key), now)
    if in_force:
        topic = Topics(fleet.config.site).status(device)
        gone = encode_message(Status(device=device, online=False))
        with _visit(fleet, _operator(fleet, now)) as visit:
            visit.publish(topic, gone, retain=True)
    return Revocation(certificates=count, in_force=in_force)


def revoke_role(fleet: Fleet, role: Role, reason: str, now: datetime) -> Revocation:
    """Throw a process of the gateway out; its file is removed.

    Raises:
        ConfigError: it has no certificate.
        TransportError: as `revoke_device`.
    """
    name = role.common_name
    with fleet.store.writing() as db:
        if not certificates.of(db, name):
            raise ConfigError(f"the role {role.text!r} has no certificate")
        count = certificates.revoke(db, name, reason=reason, now_ms=to_ms(now))
    fleet.role_file(role).unlink(missing_ok=True)
    key = new_service_key()
    certificate = fleet.authority.issue_role(role, key.public_key(), now, life=PASS_LIFE)
    in_force = _enforce(fleet, Pass(certificate=certificate, key=key), now)
    return Revocation(certificates=count, in_force=in_force)


def _remove_tokens(db: Connection, device: str) -> None:
    """Whoever has a token of it could come back under its name."""
    for token in tokens.everyone(db):
        if token.device == device and token.used_ms is None:
            tokens.remove(db, token.id)


def _enforce(fleet: Fleet, substitute: Pass, now: datetime) -> bool:
    """Make the broker honour what the store says; whether one runs.

    Args:
        fleet: whose.
        substitute: a good certificate under the name that is to be thrown out.
        now: the time.
    """
    canary = _operator(fleet, now)
    with fleet.store.writing() as db:
        serial = serial_text(canary.certificate)
        name, now_ms = OPERATOR.common_name, to_ms(now)
        certificates.revoke(db, name, reason="canary", now_ms=now_ms, serial=serial)
        note(db, substitute.certificate, now, name)
    with fleet.alone():
        publish(fleet, now)
        fleet.store.back_up()  # a store that is set back must not let it in again
        told = reload_brokers(fleet)
    if not _taken_in(fleet, canary, told=told):
        return False
    _evict(fleet, substitute)
    return True


def _evict(fleet: Fleet, substitute: Pass) -> None:
    try:
        with _visit(fleet, substitute):
            pass
    except RefusedError as error:
        raise TransportError(
            f"the broker refuses good certificates too: see its clock, and its log in "
            f"{fleet.broker.log} ({error})"
        ) from error


def _taken_in(fleet: Fleet, canary: Pass, *, told: bool) -> bool:
    """Whether a broker runs, which is waited for until it refuses what is on the new list."""
    end_s = time.monotonic() + TAKEN_IN_S
    while True:
        try:
            with _visit(fleet, canary):
                fault = TransportError(_NOT_TAKEN_IN.format(port=fleet.config.broker.port))
        except RefusedError:
            return True
        except TransportError as error:
            if not told:
                return False
            fault = error
        if not told or time.monotonic() > end_s:
            raise fault
        time.sleep(PAUSE_S)


def _operator(fleet: Fleet, now: datetime) -> Pass:
    key = new_service_key()
    certificate = fleet.authority.issue_role(OPERATOR, key.public_key(), now, life=PASS_LIFE)
    with fleet.store.writing() as db:
        note(db, certificate, now)
    return Pass(certificate=certificate, key=key)


def _visit(fleet: Fleet, shown: Pass) -> Visit:
    return Visit(fleet.config.broker.near, context_for(fleet.authority, shown))
