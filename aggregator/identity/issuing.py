"""Certificates that are issued and noted: of devices, of roles, and of the broker."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import Connection

from aggregator.identity.authority import pem_of
from aggregator.identity.broker_files import write_broker_identity
from aggregator.identity.fleet import Fleet
from aggregator.identity.keys import key_pem, new_service_key
from aggregator.identity.moment import to_ms
from aggregator.identity.names import ROLE_MARK, Role, parse_role
from aggregator.store import certificates
from fedsparse.durable import write_secret
from fedsparse.errors import ConfigError

BROKER: Final = "_broker"  # under which its certificates are noted; no device has such a name


def serial_text(certificate: x509.Certificate) -> str:
    """A serial number as the store and `openssl x509 -serial` have it: hexadecimal."""
    return f"{certificate.serial_number:x}"


def note(db: Connection, certificate: x509.Certificate, now: datetime, name: str = "") -> None:
    """Keep the fact that a certificate was issued.

    Args:
        db: in a transaction.
        certificate: the new one.
        now: when.
        name: whose; by default its common name.
    """
    (common,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    public = certificate.public_key()
    certificates.add(
        db,
        certificates.Certificate(
            serial=serial_text(certificate),
            device=name or str(common.value),
            certificate=certificate.public_bytes(Encoding.DER),
            public_key=public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            not_before_ms=to_ms(certificate.not_valid_before_utc),
            not_after_ms=to_ms(certificate.not_valid_after_utc),
            issued_ms=to_ms(now),
        ),
    )


def issue_role(fleet: Fleet, role: Role, now: datetime) -> Path:
    """Give a process of the gateway a key and a certificate, in one file; an older one is replaced.

    The older certificate stays good until it ends: a process that has it goes on.

    Returns:
        The file, which is its owner's alone.
    """
    key = new_service_key()
    certificate = fleet.authority.issue_role(role, key.public_key(), now)
    with fleet.store.writing() as db:
        note(db, certificate, now)
    path = fleet.role_file(role)
    write_secret(path, pem_of(certificate) + key_pem(key))
    return path


def issue_broker(fleet: Fleet, now: datetime) -> None:
    """Give the fleet's two brokers a new key and certificate."""
    key = new_service_key()
    hosts = fleet.config.certified_hosts
    certificate = fleet.authority.issue_broker(hosts, key.public_key(), now)
    with fleet.store.writing() as db:
        note(db, certificate, now, BROKER)
    for folder in (fleet.broker, fleet.enrolment):
        write_broker_identity(folder, pem_of(certificate), key_pem(key))


def roles(db: Connection, now: datetime) -> tuple[Role, ...]:
    """The roles that have a certificate which is good now."""
    names = {one.device for one in certificates.live(db, to_ms(now))}
    found = []
    for name in sorted(names):
        if name.startswith(ROLE_MARK) and name != BROKER:
            try:
                found.append(parse_role(name.removeprefix(ROLE_MARK)))
            except ConfigError:  # of a version with other roles
                continue
    return tuple(found)
