"""The registry: which devices there are, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, Row, select, update

from aggregator.store import schema
from aggregator.store.upsert import upsert


class State(Enum):
    """What a device is to the fleet."""

    KNOWN = "known"  # it spoke to us; on a broker without certificates that is all there is
    ENROLLED = "enrolled"  # it has an identity of the fleet's own authority
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device.

    Attributes:
        board: as it says; empty where it has not yet.
        added_ms, last_seen_ms: when it was first and last heard of; None: never.
        max_examples: the most examples that its updates count as; None: as the job has it.
        public_key: of its signatures; None without an identity.
    """

    name: str
    board: str
    state: State
    added_ms: int
    last_seen_ms: int | None
    max_examples: int | None
    public_key: bytes | None


def everyone(db: Connection) -> list[Device]:
    """All devices, by name."""
    rows = db.execute(select(schema.devices).order_by(schema.devices.c.name))
    return [_device(row) for row in rows]


def find(db: Connection, name: str) -> Device | None:
    """One device; None where nobody knows it."""
    row = db.execute(select(schema.devices).where(schema.devices.c.name == name)).one_or_none()
    return None if row is None else _device(row)


def seen(db: Connection, boards: Mapping[str, str], now_ms: int) -> None:
    """Devices were heard of; those that nobody knew are added.

    Args:
        db: in a transaction.
        boards: what each says that it is, by name; empty where it did not say.
        now_ms: the time.
    """
    for name, board in sorted(boards.items()):
        named = {"board": board} if board else {}
        if not _change(db, name, last_seen_ms=now_ms, **named):
            _add(db, name, State.KNOWN, now_ms, board=board, last_seen_ms=now_ms)


def enrol(db: Connection, name: str, public_key: bytes, now_ms: int) -> None:
    """A device has been given an identity."""
    named = {"state": State.ENROLLED.value, "public_key": public_key}
    if not _change(db, name, **named):
        _add(db, name, State.ENROLLED, now_ms, public_key=public_key)


def revoke(db: Connection, name: str) -> bool:
    """A device has lost its identity; whether there was such a device."""
    return _change(db, name, state=State.REVOKED.value, public_key=None)


def cap_examples(db: Connection, name: str, max_examples: int | None) -> bool:
    """Bound what a device's updates count as; None leaves that to the job. Whether it exists."""
    return _change(db, name, max_examples=max_examples)


def _change(db: Connection, name: str, **values: object) -> bool:
    changed = update(schema.devices).where(schema.devices.c.name == name).values(values)
    return db.execute(changed).rowcount > 0


def _add(
    db: Connection,
    name: str,
    state: State,
    now_ms: int,
    *,
    board: str = "",
    last_seen_ms: int | None = None,
    public_key: bytes | None = None,
) -> None:
    row = {
        "name": name,
        "board": board,
        "state": state.value,
        "added_ms": now_ms,
        "last_seen_ms": last_seen_ms,
        "public_key": public_key,
    }
    upsert(db, schema.devices, [row])  # another process may have added it meanwhile


def _device(row: Row[tuple[object, ...]]) -> Device:
    fields = row._asdict()
    return Device(**fields | {"state": State(fields["state"])})
