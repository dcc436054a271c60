"""The certificates that the fleet's own authority has issued."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, select, update

from aggregator.store import schema

TABLE = schema.certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate.

    Attributes:
        serial: in hexadecimal.
        device: its common name: a device, or a program of the gateway.
        certificate: DER.
        public_key: as it is in the certificate.
        not_before_ms, not_after_ms: from when, and until when it is good.
        issued_ms: when it was made.
        revoked_ms, reason: when it was revoked and why; None: it is not.
    """

    serial: str
    device: str
    certificate: bytes
    public_key: bytes
    not_before_ms: int
    not_after_ms: int
    issued_ms: int
    revoked_ms: int | None = None
    reason: str | None = None


def add(db: Connection, certificate: Certificate) -> None:
    """Keep a new certificate."""
    fields = {name: getattr(certificate, name) for name in Certificate.__slots__}
    db.execute(insert(TABLE).values(fields))


def find(db: Connection, serial: str) -> Certificate | None:
    """The certificate of this serial number; None where it is not ours."""
    found = _where(db, TABLE.c.serial == serial)
    return found[0] if found else None


def of(db: Connection, device: str) -> list[Certificate]:
    """All that a device was ever given, the oldest first."""
    return _where(db, TABLE.c.device == device)


def live(db: Connection, now_ms: int, device: str | None = None) -> list[Certificate]:
    """Those that are good now, of one device or of all, the oldest first."""
    good = (TABLE.c.not_after_ms > now_ms) & TABLE.c.revoked_ms.is_(None)
    return _where(db, good if device is None else good & (TABLE.c.device == device))


def revoked(db: Connection, now_ms: int) -> list[Certificate]:
    """Those that a revocation list must name: an expired one is refused without it."""
    return _where(db, (TABLE.c.not_after_ms > now_ms) & TABLE.c.revoked_ms.is_not(None))


def revoke(
    db: Connection, device: str, *, reason: str, now_ms: int, serial: str | None = None
) -> int:
    """Revoke what a device has, or one certificate of it; how many were good before."""
    mine = (TABLE.c.device == device) & TABLE.c.revoked_ms.is_(None)
    chosen = mine if serial is None else mine & (TABLE.c.serial == serial)
    values = {"revoked_ms": now_ms, "reason": reason}
    return db.execute(update(TABLE).where(chosen).values(values)).rowcount


def _where(db: Connection, condition: ColumnElement[bool]) -> list[Certificate]:
    rows = db.execute(select(TABLE).where(condition).order_by(TABLE.c.issued_ms, TABLE.c.serial))
    return [Certificate(**row._asdict()) for row in rows]
