"""What an aggregator that starts does about what its disk has damaged."""

from __future__ import annotations

import logging

from aggregator.checkpoint import generations, path_of
from aggregator.course import Course
from aggregator.events import Diary
from aggregator.folding import Asking, fold_round
from aggregator.job import JobConfig
from aggregator.open_round import JobStore
from aggregator.spool import Damage, Spool
from fedsparse.errors import StoreError
from fedsparse.plan import Plan

log = logging.getLogger("aggregator")


def tell_damage(events: Diary, round_id: int, damage: Damage) -> None:
    """An update that has its receipt is not lost without a word."""
    log.error("round=%d update_damaged=%s reason=%r", round_id, damage.device, damage.reason)
    events.write("update_damaged", round=round_id, device=damage.device, reason=damage.reason)


def redo_damaged(
    job: JobConfig, plan: Plan, course: Course, spool: Spool, jobs: JobStore, events: Diary
) -> None:
    """Make a damaged checkpoint again: from the one before, and the updates of the round between.

    Where the updates are gone too, the job goes on from the older checkpoint.

    Args:
        job, plan: what is trained.
        course: stands where the newest good checkpoint is; goes on by a round.
        spool: has the updates.
        jobs: knows how many they were.
        events: the job's diary.

    Raises:
        OSError: the disk is at fault.
    """
    now, newest = course.round, max(generations(job.output), default=0)
    if not course.resumed or newest <= now.round_id:
        return
    damaged = path_of(job.output, newest)
    log.error("checkpoint=%s damaged=yes", damaged)
    for damage in spool.open(now.round_id):
        tell_damage(events, now.round_id, damage)
    asking = Asking(job=job, plan=plan, model=course.model, now=now)
    folded, parts = fold_round(
        asking, spool, spool.digests, lambda damage: tell_damage(events, now.round_id, damage)
    )
    wanted = _known(jobs, now.round_id)
    found = {one.device: one.digest for one in parts}
    lost = sorted(device for device in wanted if wanted[device] != found.get(device))
    if folded.reports:
        course.closed(folded, parts)
    else:
        damaged.unlink()
    log.error("checkpoint=%s made_again=%s lost=%s", damaged, bool(folded.reports), lost)
    events.write(
        "checkpoint_damaged", round=newest, made_again=bool(folded.reports), updates_lost=lost
    )


def _known(jobs: JobStore, round_id: int) -> dict[str, str]:
    try:
        return jobs.folded(round_id)
    except StoreError:
        return {}
