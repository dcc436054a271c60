"""Tokens of enrolment: each lets one device in, once, for a while."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from aggregator.store import schema

TABLE = schema.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token.

    Attributes:
        id: its public part.
        device: whom it lets in.
        key: derived from its secret part, which is not kept.
        made_ms, expires_ms: when it was made, and until when it is good.
        wrong_proofs: how often somebody did not know the secret.
        used_ms: when it let a device in; None: not yet.
        csr_digest: of the request that used it: the same one may be answered once more.
        serial: of the certificate that answered it.
    """

    id: str
    device: str
    key: bytes
    made_ms: int
    expires_ms: int
    wrong_proofs: int = 0
    used_ms: int | None = None
    csr_digest: bytes | None = None
    serial: str | None = None


def add(db: Connection, token: Token) -> None:
    """Keep a new token."""
    fields = {name: getattr(token, name) for name in Token.__slots__}
    db.execute(insert(TABLE).values(fields))


def find(db: Connection, token_id: str) -> Token | None:
    """The token of this id; None where there is none."""
    row = db.execute(select(TABLE).where(TABLE.c.id == token_id)).one_or_none()
    return None if row is None else Token(**row._asdict())


def everyone(db: Connection) -> list[Token]:
    """All tokens, the newest last."""
    rows = db.execute(select(TABLE).order_by(TABLE.c.made_ms, TABLE.c.id))
    return [Token(**row._asdict()) for row in rows]


def use(db: Connection, token_id: str, *, csr_digest: bytes, serial: str, now_ms: int) -> bool:
    """Use a token up; whether it was still unused. Of two at the same time one gets it."""
    unused = (TABLE.c.id == token_id) & TABLE.c.used_ms.is_(None)
    values = {"used_ms": now_ms, "csr_digest": csr_digest, "serial": serial}
    return db.execute(update(TABLE).where(unused).values(values)).rowcount > 0


def count_wrong_proof(db: Connection, token_id: str) -> int:
    """Somebody did not know the secret of this token; how often that was so by now."""
    more = update(TABLE).where(TABLE.c.id == token_id)
    db.execute(more.values(wrong_proofs=TABLE.c.wrong_proofs + 1))
    wrong = select(TABLE.c.wrong_proofs).where(TABLE.c.id == token_id)
    return int(db.execute(wrong).scalar() or 0)


def remove(db: Connection, token_id: str) -> bool:
    """Take a token back; whether there was such a one."""
    return db.execute(delete(TABLE).where(TABLE.c.id == token_id)).rowcount > 0


def remove_expired(db: Connection, before_ms: int) -> int:
    """Forget tokens that ran out before `before_ms`, used or not; how many."""
    return db.execute(delete(TABLE).where(TABLE.c.expires_ms < before_ms)).rowcount
