"""A job's notes in the store, in both databases; the simulator's, in memory, keep the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from aggregator.open_round import Assignment, FoldedUpdate, JobStore, MemoryJobs, OpenRound
from aggregator.store import schema
from aggregator.store.database import Store, open_store
from aggregator.store.jobs import ROUNDS_KEPT, StoredJob, enter_job

NOW_S = 1_800_000_000.0
COHORT = {
    "a": Assignment(level=0.1, num_examples=2**40),
    "b.c": Assignment(level=1 / 3, num_examples=7),
}
OPEN = OpenRound(round_id=4, attempt=2, repeats=1, cohort=COHORT, closes_at_s=NOW_S + 12.345)
FOLDED = [
    FoldedUpdate(device="a", origin_round=4, level=0.1, num_examples=9, digest="aa" * 32),
    FoldedUpdate(device="b.c", origin_round=4, level=1 / 3, num_examples=7, digest="bb" * 32),
]


def job_in(store: Store, run: bytes = b"r" * 16) -> StoredJob:
    with store.writing() as db:
        job_id = enter_job(db, run=run, name="j", method="m", plan_digest="d", now_ms=1)
    return StoredJob(store, job_id)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    if request.param == "memory":
        yield MemoryJobs()
        return
    where = str(tmp_path / "fleet.db")
    if request.param == "postgresql":
        where = request.getfixturevalue("postgres").database()
    with open_store(where) as store:
        yield job_in(store)


def again(jobs: JobStore) -> JobStore:
    """The same notes, as another process finds them."""
    return StoredJob(jobs.store, jobs.job_id) if isinstance(jobs, StoredJob) else jobs


def test_what_is_noted_of_the_open_round_is_found_again(jobs: JobStore) -> None:
    assert jobs.open_round(4) is None
    jobs.note(OPEN, NOW_S)
    assert again(jobs).open_round(4) == OPEN
    assert again(jobs).open_round(5) is None
    started = replace(OPEN, attempt=3, cohort={}, closes_at_s=None)
    jobs.note(started, NOW_S)
    assert again(jobs).open_round(4) == started


def test_a_cohort_may_change_and_shrink(jobs: JobStore) -> None:
    jobs.note(OPEN, NOW_S)
    lower = replace(OPEN, cohort={**COHORT, "a": Assignment(level=0.05, num_examples=3)})
    jobs.note(lower, NOW_S)
    assert again(jobs).open_round(4) == lower
    fewer = replace(OPEN, cohort={"a": COHORT["a"]})
    jobs.note(fewer, NOW_S)
    assert again(jobs).open_round(4) == fewer


def test_a_closed_round_is_not_open_and_names_what_it_holds(jobs: JobStore) -> None:
    jobs.note(OPEN, NOW_S)
    jobs.close(4, FOLDED, NOW_S)
    assert again(jobs).open_round(4) is None
    assert again(jobs).folded(4) == {"a": "aa" * 32, "b.c": "bb" * 32}
    assert again(jobs).folded(3) == {}
    jobs.close(4, FOLDED[:1], NOW_S)  # it was folded again
    assert again(jobs).folded(4) == {"a": "aa" * 32}


def test_a_run_is_entered_once_and_runs_are_kept_apart(store: Store) -> None:
    first, same, other = job_in(store), job_in(store), job_in(store, b"s" * 16)
    assert first.job_id == same.job_id != other.job_id
    first.note(OPEN, NOW_S)
    assert other.open_round(4) is None
    other.close(4, FOLDED, NOW_S)
    assert first.folded(4) == {}
    assert first.open_round(4) == OPEN


def test_one_device_that_changes_costs_one_row(store: Store) -> None:
    jobs = job_in(store)
    cohort = {f"device-{n}": Assignment(level=0.1, num_examples=n) for n in range(300)}
    jobs.note(replace(OPEN, cohort=cohort), NOW_S)
    written: list[int] = []

    def count(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        if statement.startswith("INSERT INTO assignments"):
            written.append(len(parameters) if isinstance(parameters, list) else 1)

    event.listen(store._engine, "before_cursor_execute", count)
    cohort["device-7"] = Assignment(level=0.05, num_examples=7)
    jobs.note(replace(OPEN, cohort=cohort), NOW_S)
    assert written == [1]
    assert StoredJob(store, jobs.job_id).open_round(4) == replace(OPEN, cohort=cohort)


def test_what_is_long_ago_is_forgotten(store: Store) -> None:
    jobs = job_in(store)
    for round_id in range(1, ROUNDS_KEPT + 4):
        jobs.note(replace(OPEN, round_id=round_id), NOW_S)
        jobs.close(round_id, FOLDED, NOW_S)
    with store.reading() as db:
        for table in (schema.updates, schema.assignments):
            assert db.execute(select(func.min(table.c.round_id))).scalar() == 4
        assert db.execute(select(func.count()).select_from(schema.rounds)).scalar() == 53
