"""A job's notes in the store (see aggregator/open_round.py)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select, update

from aggregator.open_round import Assignment, FoldedUpdate, OpenRound
from aggregator.store import schema
from aggregator.store.database import Store
from aggregator.store.upsert import upsert
from fedsparse.errors import StoreError

log = logging.getLogger("aggregator.store")

ROUNDS_KEPT: Final = 50  # of which each device's part is known
SECOND_MS: Final = 1000


def enter_job(
    db: Connection, *, run: bytes, name: str, method: str, plan_digest: str, now_ms: int
) -> int:
    """The key of a job; a new row where it is new.

    Args:
        db: in a transaction.
        run: 16 bytes that are its own (aggregator/run.py).
        name, method, plan_digest: what it is.
        now_ms: the time.
    """
    found = db.execute(select(schema.jobs.c.id).where(schema.jobs.c.run == run)).scalar()
    if found is not None:
        return int(found)
    row = {
        "run": run,
        "name": name,
        "method": method,
        "plan_digest": plan_digest,
        "started_ms": now_ms,
    }
    made = db.execute(insert(schema.jobs).values(row).returning(schema.jobs.c.id))
    return int(made.scalar_one())


class StoredJob:
    """One job's notes, as a `JobStore`.

    Args:
        store: open; the caller closes it.
        job_id: from `enter_job`.
    """

    def __init__(self, store: Store, job_id: int) -> None:
        self.store = store
        self.job_id = job_id
        self._run = b""  # until it is asked for
        self._noted: OpenRound | None = None  # as it is in the store

    @property
    def run(self) -> bytes:
        """Which run of the job it is."""
        if not self._run:
            with self.store.reading() as db:
                found = select(schema.jobs.c.run).where(schema.jobs.c.id == self.job_id)
                self._run = bytes(db.execute(found).scalar_one())
        return self._run

    def open_round(self, round_id: int) -> OpenRound | None:
        """What was noted of a round that is not closed; None where nothing was."""
        rounds, assignments = schema.rounds, schema.assignments
        open_one = self._of(rounds, round_id) & rounds.c.closed_ms.is_(None)
        with self.store.reading() as db:
            row = db.execute(select(rounds).where(open_one)).one_or_none()
            if row is None:
                return None
            cohort = db.execute(
                select(assignments)
                .where(self._of(assignments, round_id))
                .order_by(assignments.c.device)
            ).all()
        return OpenRound(
            round_id=round_id,
            attempt=row.attempt,
            repeats=row.repeats,
            closes_at_s=None if row.closes_ms is None else row.closes_ms / SECOND_MS,
            cohort={
                one.device: Assignment(level=one.level, num_examples=one.num_examples)
                for one in cohort
            },
        )

    def note(self, current: OpenRound, now_s: float) -> None:
        """Note how the open round stands at `now_s` (Unix time)."""
        before = self._noted
        known: Mapping[str, Assignment] = {}
        if before is not None and before.round_id == current.round_id:
            known = before.cohort
        closes_ms = None if current.closes_at_s is None else round(current.closes_at_s * SECOND_MS)
        row = {
            "job_id": self.job_id,
            "round_id": current.round_id,
            "attempt": current.attempt,
            "repeats": current.repeats,
            "opened_ms": round(now_s * SECOND_MS),
            "closes_ms": closes_ms,
            "closed_ms": None,
        }
        self._noted = None  # until it is known that all of it is there
        with self.store.writing() as db:
            upsert(db, schema.rounds, [row])
            self._note_cohort(db, current, known)
        self._noted = replace(current, cohort=dict(current.cohort))

    def close(self, round_id: int, updates: Sequence[FoldedUpdate], now_s: float) -> None:
        """Note what a round was folded of, forget what is long ago, and keep a backup."""
        rows = [
            {
                "job_id": self.job_id,
                "round_id": round_id,
                "device": one.device,
                "origin_round": one.origin_round,
                "level": one.level,
                "digest": one.digest,
                "num_examples": one.num_examples,
            }
            for one in updates
        ]
        closed = update(schema.rounds).where(self._of(schema.rounds, round_id))
        with self.store.writing() as db:
            db.execute(closed.values(closed_ms=round(now_s * SECOND_MS)))
            db.execute(delete(schema.updates).where(self._of(schema.updates, round_id)))
            upsert(db, schema.updates, rows)
            for table in (schema.updates, schema.assignments):
                long_ago = table.c.round_id <= round_id - ROUNDS_KEPT
                db.execute(delete(table).where((table.c.job_id == self.job_id) & long_ago))
        try:
            self.store.back_up()
        except StoreError as error:  # the one of before still is there
            log.warning("store_backup=failed reason=%r", str(error))

    def folded(self, round_id: int) -> dict[str, str]:
        """Digests by device of what a closed round was folded of; empty where that is not known."""
        updates = schema.updates
        chosen = select(updates.c.device, updates.c.digest).where(self._of(updates, round_id))
        with self.store.reading() as db:
            return {row.device: row.digest for row in db.execute(chosen)}

    def _note_cohort(
        self, db: Connection, current: OpenRound, known: Mapping[str, Assignment]
    ) -> None:
        """Write what has changed of it: one device of a thousand costs one row."""
        assignments = schema.assignments
        if not known or known.keys() - current.cohort.keys():
            db.execute(delete(assignments).where(self._of(assignments, current.round_id)))
            known = {}
        upsert(
            db,
            assignments,
            [
                {
                    "job_id": self.job_id,
                    "round_id": current.round_id,
                    "device": device,
                    "level": one.level,
                    "num_examples": one.num_examples,
                }
                for device, one in current.cohort.items()
                if known.get(device) != one
            ],
        )

    def _of(self, table: Table, round_id: int) -> ColumnElement[bool]:
        return (table.c.job_id == self.job_id) & (table.c.round_id == round_id)
