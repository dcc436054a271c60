"""The revocation lists that were issued: numbers and times, which must only ever grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, insert, select

from aggregator.store import schema

TABLE = schema.crls
SECOND_MS: Final = 1000  # the resolution of a list's times


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """One list.

    Attributes:
        number: counts them from 1.
        this_update_ms: when it was made, in whole seconds.
        next_update_ms: until when it is good.
    """

    number: int
    this_update_ms: int
    next_update_ms: int


def latest(db: Connection) -> Crl | None:
    """The newest list; None where there is none yet."""
    row = db.execute(select(TABLE).order_by(TABLE.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else Crl(**row._asdict())


def add(db: Connection, *, now_ms: int, valid_ms: int) -> Crl:
    """Note a further list, and say which number and times it is to have.

    OpenSSL takes the one that was made later, in whole seconds: a second list within the same
    second would be ignored, and is dated a second later.
    """
    before = latest(db)
    this_update_ms = now_ms // SECOND_MS * SECOND_MS
    if before is not None:
        this_update_ms = max(this_update_ms, before.this_update_ms + SECOND_MS)
    crl = Crl(
        number=before.number + 1 if before else 1,
        this_update_ms=this_update_ms,
        next_update_ms=this_update_ms + valid_ms,
    )
    fields = {name: getattr(crl, name) for name in Crl.__slots__}
    db.execute(insert(TABLE).values(fields))
    return crl
