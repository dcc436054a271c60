"""A device's side of a round."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest

from fedsparse.body import Bytes
from fedsparse.errors import LocalProtocolError
from fedsparse.rounds.client import (
    TRANSITIONS,
    AnswerAgain,
    ClearOutbox,
    ClientRounds,
    Decide,
    Event,
    KeepPlan,
    Phase,
    StopTraining,
    Train,
    Upload,
    next_phase,
)
from fedsparse.wire.messages import Offer, Part, Receipt, Stage, Task, Verdict

PLAN = hashlib.sha256(b"plan").hexdigest()
BODY, OTHER = Bytes(b"abc"), Bytes(b"xyz")
UPDATE = hashlib.sha256(b"update").hexdigest()


def offer(round_id: int = 1, attempt: int = 0, stage: Stage = Stage.TRAIN, job: str = "j") -> Offer:
    return Offer(
        job=job,
        round_id=round_id,
        attempt=attempt,
        stage=stage,
        plan_digest=PLAN,
        levels=(0.1,),
        mask_digests=("",),
        kept=((4,),),
        batch_size=8,
        epochs=1,
        seconds_left=60.0,
    )


def task(round_id: int = 1, job: str = "j", part: str = "values") -> Task:
    return Task(
        job=job,
        round_id=round_id,
        attempt=0,
        stage=Stage.TRAIN,
        plan_digest=PLAN,
        parts=(Part(name=part, codec="f32", size=3),),
    )


def receipt(verdict: Verdict = Verdict.ACCEPTED, round_id: int = 1, job: str = "j") -> Receipt:
    return Receipt(job=job, round_id=round_id, update_digest=UPDATE, verdict=verdict)


def machine_in(phase: Phase, first: Offer | None = None) -> ClientRounds:
    machine = ClientRounds()
    first = first or offer()
    if phase is Phase.IDLE:
        machine.offered(first)
        machine.decided(takes_part=False)
        return machine
    machine.offered(first)
    if phase is Phase.DECIDING:
        return machine
    machine.decided(takes_part=True)
    if phase is Phase.READY:
        return machine
    machine.assigned(task(first.round_id, first.job), BODY)
    if phase is Phase.UPLOADING:
        machine.trained()
    assert machine.phase is phase
    return machine


@pytest.mark.parametrize(("phase", "event"), [*itertools.product(Phase, Event)])
def test_every_pair_of_the_client_moves_or_is_refused(phase: Phase, event: Event) -> None:
    if (phase, event) in TRANSITIONS:
        assert next_phase(phase, event) is TRANSITIONS[phase, event]
    else:
        with pytest.raises(LocalProtocolError, match=f"{event.name}.*{phase.name}"):
            next_phase(phase, event)


@pytest.mark.parametrize("phase", Phase)
def test_a_device_can_be_offered_a_round_or_the_end_in_every_phase(phase: Phase) -> None:
    assert next_phase(phase, Event.OFFERED) is Phase.DECIDING
    assert next_phase(phase, Event.FINISHED) is Phase.IDLE


def test_a_whole_round() -> None:
    machine = ClientRounds()
    assert machine.offered(offer()) == [Decide(offer=offer())]
    machine.decided(takes_part=True)
    assert machine.assigned(task(), BODY) == [Train(task=task(), body=BODY)]
    assert machine.trained() == [Upload()]
    assert machine.received(receipt(), UPDATE) == [ClearOutbox()]
    assert machine.phase is Phase.IDLE


@pytest.mark.parametrize(
    ("phase", "effects", "after"),
    [
        (Phase.IDLE, [Decide(offer=offer())], Phase.DECIDING),
        (Phase.DECIDING, [Decide(offer=offer())], Phase.DECIDING),
        (Phase.READY, [AnswerAgain()], Phase.READY),
        (Phase.TRAINING, [], Phase.TRAINING),
        (Phase.UPLOADING, [Upload()], Phase.UPLOADING),
    ],
)
def test_the_same_offer_again_repeats_what_may_have_been_lost(
    phase: Phase, effects: list[object], after: Phase
) -> None:
    machine = machine_in(phase)
    assert machine.offered(offer()) == effects
    assert machine.phase is after


@pytest.mark.parametrize(
    ("phase", "dropped"),
    [
        (Phase.IDLE, []),
        (Phase.DECIDING, []),
        (Phase.READY, []),
        (Phase.TRAINING, [StopTraining()]),
        (Phase.UPLOADING, [ClearOutbox()]),
    ],
)
@pytest.mark.parametrize("newer", [offer(2), offer(1, job="other")], ids=["round", "job"])
def test_another_round_drops_the_work_at_hand(
    phase: Phase, dropped: list[object], newer: Offer
) -> None:
    machine = machine_in(phase)
    assert machine.offered(newer) == [*dropped, Decide(offer=newer)]
    assert machine.phase is Phase.DECIDING
    assert machine.offer == newer


@pytest.mark.parametrize("phase", Phase)
def test_the_end_of_the_job_drops_the_work_at_hand(phase: Phase) -> None:
    machine = machine_in(phase)
    effects = machine.offered(offer(2, stage=Stage.DONE))
    stops: dict[Phase, list[object]] = {
        Phase.TRAINING: [StopTraining()],
        Phase.UPLOADING: [ClearOutbox()],
    }
    assert effects == stops.get(phase, [])
    assert machine.phase is Phase.IDLE
    assert machine.offered(offer(2, stage=Stage.DONE)) == []
    assert machine.assigned(task(2), BODY) == []


@pytest.mark.parametrize(
    ("phase", "effects", "after"),
    [
        (Phase.IDLE, [Decide(offer=offer(1, 1))], Phase.DECIDING),
        (Phase.DECIDING, [Decide(offer=offer(1, 1))], Phase.DECIDING),
        (Phase.READY, [Decide(offer=offer(1, 1))], Phase.DECIDING),
        (Phase.TRAINING, [], Phase.TRAINING),
        (Phase.UPLOADING, [Upload()], Phase.UPLOADING),
    ],
)
def test_a_restarted_server_is_answered_but_work_under_way_goes_on(
    phase: Phase, effects: list[object], after: Phase
) -> None:
    machine = machine_in(phase)
    assert machine.offered(offer(1, 1)) == effects
    assert machine.phase is after


# Work that comes to nothing must not leave the device without an answer to an offer that came
# meanwhile: the server would wait for it.


@pytest.mark.parametrize("heard", [offer(1, 0), offer(1, 1)], ids=["reconnect", "attempt"])
def test_a_task_that_fails_after_the_round_was_offered_again_is_followed_by_an_answer(
    heard: Offer,
) -> None:
    machine = machine_in(Phase.TRAINING)
    machine.offered(heard)
    assert machine.failed() == [Decide(offer=heard)]
    assert machine.phase is Phase.DECIDING


def test_a_task_that_fails_is_not_tried_again_unless_the_round_is_offered_again() -> None:
    machine = machine_in(Phase.TRAINING)
    machine.offered(offer(1, 1))
    machine.failed()
    machine.decided(takes_part=True)
    machine.assigned(task(), BODY)
    assert machine.failed() == []
    assert machine.phase is Phase.IDLE


def test_an_update_that_is_late_is_followed_by_an_answer() -> None:
    machine = machine_in(Phase.TRAINING)
    machine.offered(offer(1, 1))
    machine.trained()
    effects = machine.received(receipt(Verdict.LATE), UPDATE)
    assert effects == [ClearOutbox(), Decide(offer=offer(1, 1))]
    assert machine.phase is Phase.DECIDING


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.REJECTED])
def test_an_update_that_counts_or_is_broken_is_not_made_again(verdict: Verdict) -> None:
    machine = machine_in(Phase.TRAINING)
    machine.offered(offer(1, 1))
    machine.trained()
    assert machine.received(receipt(verdict), UPDATE) == [ClearOutbox()]
    assert machine.phase is Phase.IDLE


# Tasks


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.DECIDING, Phase.TRAINING, Phase.UPLOADING])
def test_a_task_is_taken_by_a_device_that_waits_for_one_only(phase: Phase) -> None:
    machine = machine_in(phase)
    assert machine.assigned(task(), BODY) == []
    assert machine.phase is phase


@pytest.mark.parametrize("stale", [task(0), task(2), task(1, job="other")])
def test_a_task_of_another_round_or_job_is_ignored(stale: Task) -> None:
    machine = machine_in(Phase.READY)
    assert machine.assigned(stale, BODY) == []
    assert machine.phase is Phase.READY


def test_a_task_without_any_offer_is_ignored() -> None:
    assert ClientRounds().assigned(task(), BODY) == []


def test_the_plan_is_kept_while_deciding_and_never_trained() -> None:
    plan = task(part="plan")
    machine = machine_in(Phase.DECIDING)
    assert machine.assigned(plan, BODY) == [KeepPlan(task=plan, body=BODY)]
    assert machine.phase is Phase.DECIDING
    machine.decided(takes_part=True)
    assert machine.assigned(plan, BODY) == []  # delivered twice
    assert machine.phase is Phase.READY


def test_a_task_whose_mask_is_missing_is_taken_when_it_comes_again() -> None:
    machine = machine_in(Phase.TRAINING)
    machine.mask_missing()
    assert machine.assigned(task(), OTHER) == [Train(task=task(), body=OTHER)]


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("part", ["values", "plan"])
@pytest.mark.parametrize("round_id", [0, 1, 2])
@pytest.mark.parametrize("job", ["j", "other"])
def test_exactly_the_tasks_that_change_something_are_wanted(
    phase: Phase, part: str, round_id: int, job: str
) -> None:
    """Of one that is not wanted, not even the body is to come."""
    machine = machine_in(phase)
    one = task(round_id, job, part)
    wanted = machine.wants(one)
    assert machine.phase is phase
    assert wanted is bool(machine.assigned(one, BODY))


def test_a_device_without_an_offer_wants_nothing() -> None:
    assert not ClientRounds().wants(task())


# Receipts


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_ends_the_upload(verdict: Verdict) -> None:
    machine = machine_in(Phase.UPLOADING)
    assert machine.received(receipt(verdict), UPDATE)[0] == ClearOutbox()
    assert machine.phase is not Phase.UPLOADING
    assert machine.received(receipt(verdict), UPDATE) == []  # the broker may say it twice


@pytest.mark.parametrize(
    "foreign",
    [
        replace(receipt(), update_digest=hashlib.sha256(b"x").hexdigest()),
        receipt(round_id=0),
        receipt(job="other"),
    ],
    ids=["update", "round", "job"],
)
def test_a_receipt_for_something_else_is_ignored(foreign: Receipt) -> None:
    machine = machine_in(Phase.UPLOADING)
    assert machine.received(foreign, UPDATE) == []
    assert machine.phase is Phase.UPLOADING


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.UPLOADING])
def test_a_receipt_at_another_time_is_ignored(phase: Phase) -> None:
    machine = machine_in(phase)
    assert machine.received(receipt(), UPDATE) == []
    assert machine.phase is phase


# Restarts


def test_an_update_in_the_outbox_is_delivered_after_a_restart() -> None:
    machine = ClientRounds()
    machine.offered(offer())
    assert machine.in_outbox() == [Upload()]
    assert machine.offered(offer()) == [Upload()]  # after a reconnect
    assert machine.received(receipt(), UPDATE) == [ClearOutbox()]


def test_what_cannot_happen_is_a_bug_here() -> None:
    machine = machine_in(Phase.IDLE)
    for act in (machine.trained, machine.failed, machine.mask_missing, machine.in_outbox):
        with pytest.raises(LocalProtocolError, match="cannot happen while IDLE"):
            act()
