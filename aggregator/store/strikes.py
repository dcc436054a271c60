"""What devices did wrong, and whom that keeps out for a while."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from aggregator.store import schema

STRIKES, QUARANTINES = schema.strikes, schema.quarantines


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One misdeed.

    Attributes:
        device: whose.
        job_id, round_id: where it happened.
        kind: a word for it, such as `norm` or `replay`.
        reason: a sentence for people.
        at_ms: when.
    """

    device: str
    job_id: int
    round_id: int
    kind: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """A device is kept out from `since_ms` until `until_ms`, or until somebody lifts it."""

    device: str
    since_ms: int
    until_ms: int
    reason: str
    lifted_ms: int | None = None


def add(db: Connection, strike: Strike) -> None:
    """Note a misdeed."""
    db.execute(insert(STRIKES).values({name: getattr(strike, name) for name in Strike.__slots__}))


def of(db: Connection, device: str) -> list[Strike]:
    """All misdeeds of a device, the oldest first."""
    columns = [STRIKES.c[name] for name in Strike.__slots__]
    rows = db.execute(select(*columns).where(STRIKES.c.device == device).order_by(STRIKES.c.id))
    return [Strike(**row._asdict()) for row in rows]


def count(db: Connection, job_id: int, *, since_round: int, since_ms: int = 0) -> dict[str, int]:
    """Misdeeds by device in a job's rounds from `since_round` on, and from `since_ms` on."""
    recent = (
        (STRIKES.c.job_id == job_id)
        & (STRIKES.c.round_id >= since_round)
        & (STRIKES.c.at_ms >= since_ms)
    )
    counted = select(STRIKES.c.device, func.count()).where(recent).group_by(STRIKES.c.device)
    return {str(device): int(number) for device, number in db.execute(counted)}


def quarantine(db: Connection, one: Quarantine) -> None:
    """Keep a device out."""
    fields = {name: getattr(one, name) for name in Quarantine.__slots__}
    db.execute(insert(QUARANTINES).values(fields))


def quarantined(db: Connection, now_ms: int) -> dict[str, Quarantine]:
    """Who is kept out now; of several quarantines of a device the longest."""
    columns = [QUARANTINES.c[name] for name in Quarantine.__slots__]
    now = (
        (QUARANTINES.c.since_ms <= now_ms)
        & (QUARANTINES.c.until_ms > now_ms)
        & QUARANTINES.c.lifted_ms.is_(None)
    )
    rows = db.execute(select(*columns).where(now).order_by(QUARANTINES.c.until_ms))
    return {row.device: Quarantine(**row._asdict()) for row in rows}


def lift(db: Connection, device: str, now_ms: int) -> bool:
    """Let a device in again; whether it was kept out."""
    open_ones = (
        (QUARANTINES.c.device == device)
        & (QUARANTINES.c.until_ms > now_ms)
        & QUARANTINES.c.lifted_ms.is_(None)
    )
    return db.execute(update(QUARANTINES).where(open_ones).values(lifted_ms=now_ms)).rowcount > 0
