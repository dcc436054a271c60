"""The revocation lists that were issued: numbers and times, which must only ever grow."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from aggregator.store import schema

TABLE = schema.crls


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """One list.

    Attributes:
        number: counts them from 1.
        this_update_ms: from when it is good, in whole seconds.
        next_update_ms: until when it is good.
    """

    number: int
    this_update_ms: int
    next_update_ms: int


def latest(db: Connection) -> Crl | None:
    """The newest list; None where there is none yet."""
    row = db.execute(select(TABLE).order_by(TABLE.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else Crl(**row._asdict())


def add(db: Connection, crl: Crl) -> None:
    """Note a further list (aggregator/identity/crl.py: which times it may have)."""
    fields = {name: getattr(crl, name) for name in Crl.__slots__}
    db.execute(insert(TABLE).values(fields))
