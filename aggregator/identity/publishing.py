"""Bringing what the store says into the files that the brokers read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection

from aggregator.identity.acl import fleet_acl
from aggregator.identity.authority import SERVICE_LIFE
from aggregator.identity.broker_files import enrolment_broker_texts, fleet_broker_texts
from aggregator.identity.crl import LIST_LIFE, Revoked, build_list, this_update
from aggregator.identity.fleet import Fleet
from aggregator.identity.issuing import roles
from aggregator.identity.moment import from_ms, to_ms
from aggregator.store import certificates, crls, devices
from fedsparse.durable import write_durably


def publish(fleet: Fleet, now: datetime) -> None:
    """Write everything that the brokers read but their certificate: rules first, then the list.

    A running broker reads it when it is told to (aggregator/identity/running.py).
    """
    for path, text in _rules(fleet, now).items():
        write_durably(path, text.encode())
    issued = _issue_list(fleet, now).public_bytes(Encoding.PEM)
    for folder in (fleet.broker, fleet.enrolment):
        write_durably(folder.crl, issued)


def rules_are_current(fleet: Fleet, now: datetime) -> bool:
    """Whether the brokers' files, but for the list, are what `fleet.toml` and the store say."""
    try:
        return all(path.read_text() == text for path, text in _rules(fleet, now).items())
    except (OSError, UnicodeDecodeError):
        return False


def _rules(fleet: Fleet, now: datetime) -> dict[Path, str]:
    with fleet.store.reading() as db:
        gone = [one.name for one in devices.everyone(db) if one.state is devices.State.REVOKED]
        acl = fleet_acl(fleet.config.site, roles(db, now), gone)
    authority = fleet.authority.certificate_pem.decode()
    return {
        fleet.broker.acl: acl,
        fleet.broker.authority: authority,
        fleet.enrolment.authority: authority,
        **fleet_broker_texts(fleet.broker, fleet.config),
        **enrolment_broker_texts(fleet.enrolment, fleet.config),
    }


def read_list(path: Path) -> x509.CertificateRevocationList | None:
    """The list that a broker has; None where there is none, or it is damaged."""
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError):
        return None


def list_is_whole(fleet: Fleet, now: datetime) -> bool:
    """Whether the broker's list is the authority's and names all that is revoked."""
    present = read_list(fleet.broker.crl)
    if present is None or present.issuer != fleet.authority.certificate.subject:
        return False
    with fleet.store.reading() as db:
        wanted = {int(one.serial, 16) for one in certificates.revoked(db, to_ms(now))}
    return wanted <= {one.serial_number for one in present}


def _issue_list(fleet: Fleet, now: datetime) -> x509.CertificateRevocationList:
    before = read_list(fleet.broker.crl)
    with fleet.store.writing() as db:
        gone = {one.serial: one for one in (*_kept(db, before, now), *_revoked(db, now))}
        last = crls.latest(db)
        begins = this_update(from_ms(last.this_update_ms) if last else None, now)
        number = last.number + 1 if last else 1
        ends_ms = to_ms(now + LIST_LIFE)
        noted = crls.Crl(number=number, this_update_ms=to_ms(begins), next_update_ms=ends_ms)
        crls.add(db, noted)
    return build_list(fleet.authority, gone.values(), number=number, begins=begins, now=now)


def _revoked(db: Connection, now: datetime) -> list[Revoked]:
    found = certificates.revoked(db, to_ms(now))
    return [
        Revoked(serial=int(one.serial, 16), at=from_ms(one.revoked_ms or one.issued_ms))
        for one in found
    ]


def _kept(
    db: Connection, before: x509.CertificateRevocationList | None, now: datetime
) -> list[Revoked]:
    """What was revoked and is not known to have ended.

    The store may have been set back to its backup: what a list named stays named, until it ends.
    """
    kept = []
    for entry in before or ():
        known = certificates.find(db, f"{entry.serial_number:x}")
        ended = entry.revocation_date_utc + SERVICE_LIFE if known is None else _end(known)
        if ended > now:
            kept.append(Revoked(serial=entry.serial_number, at=entry.revocation_date_utc))
    return kept


def _end(certificate: certificates.Certificate) -> datetime:
    return from_ms(certificate.not_after_ms)
