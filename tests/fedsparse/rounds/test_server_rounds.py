"""The server's side of a round, with time as an argument."""

from __future__ import annotations

import itertools
import math
import statistics
import time

import pytest
from server_round_scenes import LEVELS, digest, policy, ready, training

from fedsparse.errors import LocalProtocolError
from fedsparse.rounds.server import (
    TRANSITIONS,
    Assign,
    Close,
    Event,
    Phase,
    Repeat,
    SendPlan,
    ServerRounds,
    Start,
    next_phase,
)
from fedsparse.wire.messages import Stage, Verdict


@pytest.mark.parametrize(("phase", "event"), [*itertools.product(Phase, Event)])
def test_every_pair_of_the_server_moves_or_is_refused(phase: Phase, event: Event) -> None:
    if (phase, event) in TRANSITIONS:
        assert next_phase(phase, event) is TRANSITIONS[phase, event]
    else:
        with pytest.raises(LocalProtocolError, match=f"{event.name}.*{phase.name}"):
            next_phase(phase, event)


def test_every_phase_of_the_server_is_reached_and_left() -> None:
    assert {phase for phase, _ in TRANSITIONS} == set(Phase)
    assert set(TRANSITIONS.values()) == set(Phase)
    assert {event for _, event in TRANSITIONS} == set(Event)


# Gathering


def test_a_started_job_waits_for_all_devices_that_are_online_and_no_longer() -> None:
    machine = ServerRounds(policy(), started=True)
    for device in "abc":
        machine.device_online(device, 0.0)
    assert machine.open(1, Stage.TRAIN, LEVELS, 0.0) == []
    assert machine.answered("a", ready(0.2), 1.0) == []
    assert machine.answered("b", ready(None), 1.0) == []
    assert machine.phase is Phase.GATHERING
    assert machine.answered("c", ready(0.05), 2.0) == [
        Assign(device="a", level=0.2),
        Assign(device="c", level=0.05),
    ]
    assert machine.phase is Phase.TRAINING
    assert machine.seconds_left(2.0) == 100.0


def test_a_round_does_not_wait_for_a_device_that_went_offline_while_it_gathers() -> None:
    machine = ServerRounds(policy(min_devices=1), started=True)
    machine.device_online("a", 0.0)
    machine.device_online("b", 0.0)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    assert machine.answered("a", ready(0.2), 1.0) == []
    assert machine.device_offline("b", 2.0) == [Assign(device="a", level=0.2)]


def test_a_device_that_answered_and_went_offline_gets_no_task() -> None:
    machine = ServerRounds(policy(min_devices=1), started=True)
    for device in "ab":
        machine.device_online(device, 0.0)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    machine.answered("a", ready(0.2), 0.0)
    machine.device_offline("a", 1.0)
    assert machine.answered("b", ready(0.1), 2.0) == [Assign(device="b", level=0.1)]


def test_silent_devices_are_waited_for_until_gather_s() -> None:
    machine = ServerRounds(policy(), started=True)
    for device in "abc":
        machine.device_online(device, 0.0)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    machine.answered("a", ready(0.2), 1.0)
    machine.answered("b", ready(0.2), 1.0)
    assert machine.next_tick_s(1.0) == 9.0
    assert machine.tick(9.99) == []
    assert [type(effect) for effect in machine.tick(10.0)] == [Assign, Assign]


def test_fewer_than_min_devices_never_start_a_round() -> None:
    machine = ServerRounds(policy(min_devices=2), started=True)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    machine.answered("a", ready(0.2), 1.0)
    machine.answered("b", ready(None), 1.0)  # declines: it does not count
    assert machine.tick(10_000.0) == []
    assert machine.next_tick_s(10_000.0) == math.inf
    assert len(machine.answered("c", ready(0.1), 10_001.0)) == 2


def test_stage_one_has_a_least_number_of_its_own() -> None:
    machine = ServerRounds(policy(min_devices=3, min_sense_devices=1), started=True)
    assert machine.needed == 0
    machine.open(0, Stage.SENSE, LEVELS, 0.0)
    assert machine.needed == 1
    assert len(machine.answered("a", ready(0.2, 0), 1.0)) == 1
    machine.stored({"a": digest("a")}, 2.0)
    machine.open(1, Stage.TRAIN, LEVELS, 3.0)
    assert machine.needed == 3
    assert machine.answered("a", ready(0.2), 4.0) == []
    assert machine.tick(10_000.0) == []


def test_the_first_gathering_lasts_gather_s_where_no_number_is_expected() -> None:
    machine = ServerRounds(policy())
    machine.open(0, Stage.SENSE, LEVELS, 0.0)
    for device in "ab":
        machine.answered(device, ready(0.1, 0), 1.0)
    assert machine.tick(9.0) == []
    assert machine.tick(10.0)[0] == Start(levels=(0.1, 0.05))


def test_the_first_gathering_ends_when_the_expected_devices_have_answered() -> None:
    machine = ServerRounds(policy(expected_devices=3))
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    assert machine.answered("a", ready(0.2), 1.0) == []
    assert machine.answered("b", ready(0.1), 1.0) == []
    effects = machine.answered("c", ready(None), 1.5)  # a decline is an answer
    assert effects == [
        Start(levels=LEVELS),
        Assign(device="a", level=0.2),
        Assign(device="b", level=0.1),
    ]


def test_levels_are_cut_in_the_first_gathering_only() -> None:
    machine = ServerRounds(policy(expected_devices=2))
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    machine.answered("a", ready(0.1), 0.0)
    assert machine.answered("b", ready(0.05), 0.0)[0] == Start(levels=(0.1, 0.05))
    for device in "ab":
        machine.stored({device: digest(device)}, 1.0)
    machine.open(2, Stage.TRAIN, (0.1, 0.05), 1.0)
    machine.answered("a", ready(0.05, 2), 1.0)
    effects = machine.answered("b", ready(0.05, 2), 1.0)
    assert [type(effect) for effect in effects] == [Assign, Assign]


def test_an_answer_at_a_level_that_was_not_offered_is_ignored() -> None:
    machine = ServerRounds(policy(min_devices=1), started=True)
    machine.open(1, Stage.TRAIN, (0.1, 0.05), 0.0)
    assert machine.answered("a", ready(0.2), 1.0) == []
    assert machine.answer("a") is None
    assert machine.tick(1_000.0) == []


def test_an_answer_to_another_round_is_ignored() -> None:
    machine = ServerRounds(policy(min_devices=1), started=True)
    machine.open(2, Stage.TRAIN, LEVELS, 0.0)
    for stale in (0, 1, 3):
        assert machine.answered("a", ready(0.2, stale), 1.0) == []
    assert machine.answer("a") is None


def test_a_device_without_the_plan_is_sent_it_and_waited_for() -> None:
    machine = ServerRounds(policy(min_devices=1), started=True)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    assert machine.answered("a", ready(None, has_plan=False), 0.0) == [SendPlan(device="a")]
    assert machine.answered("b", ready(0.1), 1.0) == []
    assert len(machine.answered("a", ready(0.2), 2.0)) == 2


# Choosing the cohort


def test_stage_one_takes_devices_of_the_largest_level() -> None:
    machine = ServerRounds(policy(expected_devices=5, sense_devices=2))
    machine.open(0, Stage.SENSE, LEVELS, 0.0)
    answers = {"a": 0.05, "b": 0.1, "c": 0.1, "d": 0.1}
    for device, level in answers.items():
        machine.answered(device, ready(level, 0), 0.0)
    machine.answered("e", ready(None, 0), 0.0)
    assert len(machine.cohort()) == 2
    assert set(machine.cohort().values()) == {0.1}


def test_stage_one_goes_on_without_the_largest_devices_where_they_have_left() -> None:
    machine = ServerRounds(policy(min_devices=1), started=True)
    machine.open(0, Stage.SENSE, LEVELS, 0.0)
    assert machine.answered("small", ready(0.05, 0), 0.0) == [Assign(device="small", level=0.05)]


@pytest.mark.parametrize(("participation", "wanted"), [(1.0, 10), (0.5, 5), (0.25, 3), (0.05, 2)])
def test_participation_is_a_share_of_the_ready_but_at_least_min_devices(
    participation: float, wanted: int
) -> None:
    machine = ServerRounds(policy(participation=participation), started=True)
    for index in range(10):
        machine.device_online(f"d{index}", 0.0)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    for index in range(10):
        machine.answered(f"d{index}", ready(0.1), 0.0)
    assert len(machine.cohort()) == wanted


def sampled(seed: int, round_id: int, order: range) -> list[str]:
    machine = ServerRounds(policy(participation=0.3, seed=seed), started=True)
    for index in order:
        machine.device_online(f"d{index}", 0.0)
    machine.open(round_id, Stage.TRAIN, LEVELS, 0.0)
    for index in order:
        machine.answered(f"d{index}", ready(0.1, round_id), 0.0)
    return list(machine.cohort())


def test_a_seed_and_a_round_draw_the_same_cohort_in_whatever_order_devices_answer() -> None:
    assert sampled(7, 3, range(20)) == sampled(7, 3, range(19, -1, -1))
    assert sampled(7, 3, range(20)) == sorted(sampled(7, 3, range(20)))
    assert len({tuple(sampled(7, round_id, range(20))) for round_id in range(8)}) > 1
    assert len({tuple(sampled(seed, 3, range(20))) for seed in range(8)}) > 1


def rotated(stage: Stage, round_id: int) -> dict[str, float]:
    machine = ServerRounds(policy(rotate_levels=True), started=True)
    answers = {"a": 0.2, "b": 0.2, "c": 0.1, "d": 0.05}
    for device in answers:
        machine.device_online(device, 0.0)
    machine.open(round_id, stage, LEVELS, 0.0)
    for device, level in answers.items():
        machine.answered(device, ready(level, round_id), 0.0)
    return dict(machine.cohort())


def test_levels_rotate_through_all_that_a_device_can_hold() -> None:
    rounds = [rotated(Stage.TRAIN, round_id) for round_id in range(1, 31)]
    assert [one["a"] for one in rounds[:3]] == [0.2, 0.1, 0.05]  # the largest first
    assert [one["c"] for one in rounds[:2]] == [0.1, 0.05]
    assert all({one["a"] for one in rounds[n : n + 3]} == set(LEVELS) for n in range(0, 30, 3))
    assert all({one["c"] for one in rounds[n : n + 2]} == {0.1, 0.05} for n in range(0, 30, 2))
    assert {one["d"] for one in rounds} == {0.05}


def test_devices_that_can_hold_as_much_train_the_same_level() -> None:
    rounds = [rotated(Stage.TRAIN, round_id) for round_id in range(1, 31)]
    assert all(one["a"] == one["b"] for one in rounds)


@pytest.mark.parametrize("every", [2, 3, 6])
def test_levels_fall_in_step_with_nothing_that_happens_every_few_rounds(every: int) -> None:
    rounds = [rotated(Stage.TRAIN, round_id) for round_id in range(1, 61)]
    assert {one["a"] for one in rounds[::every]} == set(LEVELS)
    assert {one["c"] for one in rounds[::every]} == {0.1, 0.05}


def test_every_level_is_scored_where_devices_score_the_model() -> None:
    assert set(rotated(Stage.EVALUATE, 1).values()) == {0.2, 0.1, 0.05}


def test_levels_do_not_rotate_in_stage_1() -> None:
    assert set(rotated(Stage.SENSE, 0).values()) == {0.2}


def test_a_device_that_answers_again_keeps_its_turn() -> None:
    machine = ServerRounds(policy(rotate_levels=True, min_devices=1), started=True)
    machine.open(2, Stage.TRAIN, LEVELS, 0.0)
    assert machine.answered("a", ready(0.2, 2), 0.0) == [Assign(device="a", level=0.1)]
    assert machine.answered("a", ready(0.2, 2), 1.0) == [Assign(device="a", level=0.1)]
    assert machine.answered("a", ready(0.05, 2), 2.0) == [Assign(device="a", level=0.05)]


def test_everyone_evaluates() -> None:
    machine = ServerRounds(policy(participation=0.1, min_devices=1), started=True)
    machine.device_online("a", 0.0)
    machine.device_online("b", 0.0)
    machine.open(9, Stage.EVALUATE, LEVELS, 0.0)
    machine.answered("a", ready(0.1, 9), 0.0)
    assert len(machine.answered("b", ready(0.2, 9), 0.0)) == 2


def test_a_round_that_was_abandoned_does_not_insist_on_the_same_cohort() -> None:
    machine = ServerRounds(policy(participation=0.1, min_devices=1), started=True)
    devices = [f"d{index}" for index in range(10)]
    for device in devices:
        machine.device_online(device, 0.0)
    tried = set()
    for attempt in range(12):
        machine.open(1, Stage.TRAIN, LEVELS, float(attempt))
        for device in devices:
            machine.answered(device, ready(0.1), float(attempt))
        (chosen,) = machine.cohort()
        tried.add(chosen)
        assert machine.failed(chosen, 1, float(attempt)) == [Repeat(round_id=1)]
    assert len(tried) > 1


# Ending


def test_a_round_closes_when_everyone_has_delivered() -> None:
    machine = training({"b": 0.1, "a": 0.2})
    assert machine.stored({"b": digest("b")}, 3.0) == []
    assert machine.stored({"a": digest("a")}, 4.0) == [Close(round_id=1, devices=("a", "b"))]
    assert machine.phase is Phase.IDLE
    assert machine.tick(1e6) == []


@pytest.mark.parametrize(
    ("quorum", "cohort", "enough"),
    # As floats, 0.07 * 100 is more than 7, and 0.55 * 100 more than 55.
    [(1.0, 3, 3), (0.7, 10, 7), (0.5, 3, 2), (0.01, 3, 1), (0.07, 100, 7), (0.55, 100, 55)],
)
def test_a_quorum_of_updates_closes_a_round(quorum: float, cohort: int, enough: int) -> None:
    names = [f"d{number:03}" for number in range(cohort)]
    machine = training(dict.fromkeys(names, 0.1), quorum=quorum)
    for name in names[: enough - 1]:
        assert machine.stored({name: digest(name)}, 1.0) == []
    last = names[enough - 1]
    closed = Close(round_id=1, devices=tuple(names[:enough]))
    assert machine.stored({last: digest(last)}, 2.0) == [closed]
    if enough < cohort:
        assert machine.verdict(names[-1], 1, digest("z")) is Verdict.LATE


def seconds_of_an_update(cohort: int) -> float:
    """Of the processor, for one update and what follows it in a cohort of so many; the median."""
    names = [f"d{number:05}" for number in range(cohort)]
    machine, name, times = training(dict.fromkeys(names, 0.1)), digest("update"), list[float]()
    for device in names[:200]:
        began = time.thread_time()
        machine.stored({device: name}, 1.0)
        machine.tick(1.0)
        machine.next_tick_s(1.0)
        times.append(time.thread_time() - began)
    return statistics.median(times)


def test_an_update_costs_a_large_cohort_no_more_than_a_small_one() -> None:
    small, large = (min(seconds_of_an_update(cohort) for _ in range(3)) for cohort in (300, 6_000))
    assert large < 5 * small  # 20 times as many devices


def test_failures_are_no_part_of_a_quorum() -> None:
    machine = training({"a": 0.1, "b": 0.1, "c": 0.1}, quorum=0.5)
    assert machine.failed("c", 1, 1.0) == []
    assert machine.stored({"a": digest("a")}, 2.0) == []
    assert machine.stored({"b": digest("b")}, 3.0) == [Close(round_id=1, devices=("a", "b"))]


def test_the_deadline_closes_a_round_with_what_was_delivered() -> None:
    machine = training({"a": 0.2, "b": 0.1, "c": 0.1})
    machine.stored({"b": digest("b")}, 3.0)
    assert machine.next_tick_s(50.0) == 50.0
    assert machine.tick(99.9) == []
    assert machine.tick(100.0) == [Close(round_id=1, devices=("b",))]


def test_a_deadline_without_any_update_repeats_the_round() -> None:
    machine = training({"a": 0.2})
    assert machine.tick(100.0) == [Repeat(round_id=1)]
    assert machine.phase is Phase.IDLE


def test_when_all_fail_the_round_is_repeated_at_once() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    assert machine.failed("a", 1, 1.0) == []
    assert machine.failed("b", 1, 2.0) == [Repeat(round_id=1)]


def test_a_failure_of_one_does_not_keep_the_others_waiting() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.failed("a", 1, 1.0)
    assert machine.stored({"b": digest("b")}, 2.0) == [Close(round_id=1, devices=("b",))]


@pytest.mark.parametrize("round_id", [0, 2])
def test_a_failure_of_another_round_changes_nothing(round_id: int) -> None:
    machine = training({"a": 0.2})
    assert machine.failed("a", round_id, 1.0) == []
    assert machine.phase is Phase.TRAINING


def test_a_failure_that_comes_while_a_round_gathers_says_nothing_of_the_next_task() -> None:
    machine = training({"a": 0.2})
    machine.tick(100.0)
    machine.open(1, Stage.TRAIN, LEVELS, 101.0)
    machine.failed("a", 1, 101.5)  # of the attempt before: it came late
    assert machine.answered("a", ready(0.2), 102.0) == [Assign(device="a", level=0.2)]
    assert machine.phase is Phase.TRAINING


# Devices that come and go


def test_a_device_that_vanished_is_released_after_the_grace() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.device_offline("a", 10.0)
    machine.stored({"b": digest("b")}, 11.0)
    assert machine.next_tick_s(11.0) == 4.0
    assert machine.tick(14.9) == []
    assert machine.tick(15.0) == [Close(round_id=1, devices=("b",))]


def test_a_second_notice_does_not_lengthen_the_grace() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.stored({"b": digest("b")}, 1.0)
    machine.device_offline("a", 10.0)
    machine.device_offline("a", 14.0)
    assert machine.tick(15.0) == [Close(round_id=1, devices=("b",))]


def test_a_device_that_comes_back_in_time_is_waited_for_again() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.stored({"b": digest("b")}, 1.0)
    machine.device_offline("a", 10.0)
    machine.device_online("a", 12.0)
    assert machine.tick(50.0) == []
    assert machine.stored({"a": digest("a")}, 60.0) == [Close(round_id=1, devices=("a", "b"))]


def test_a_device_that_answers_again_gets_its_task_again() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.device_offline("a", 10.0)
    assert machine.answered("a", ready(0.1), 11.0) == [Assign(device="a", level=0.1)]
    assert machine.cohort()["a"] == 0.1


def test_a_device_that_failed_may_try_again() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.failed("a", 1, 1.0)
    assert machine.answered("a", ready(0.2), 2.0) == [Assign(device="a", level=0.2)]
    assert machine.stored({"b": digest("b")}, 3.0) == []  # a is waited for again


def test_a_device_that_has_delivered_gets_no_second_task() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.stored({"a": digest("a")}, 1.0)
    assert machine.answered("a", ready(0.2), 2.0) == []


def test_a_newcomer_does_not_join_a_round_under_way() -> None:
    machine = training({"a": 0.2})
    assert machine.answered("late", ready(0.2), 2.0) == []
    assert "late" not in machine.cohort()


def test_a_device_of_the_cohort_that_now_declines_is_not_waited_for() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.stored({"b": digest("b")}, 1.0)
    assert machine.answered("a", ready(None), 2.0) == [Close(round_id=1, devices=("b",))]


# Updates


def test_a_wanted_update_is_to_be_checked_and_its_twin_is_accepted() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    assert machine.verdict("a", 1, digest("a")) is None
    assert machine.verdict("a", 1, digest("a")) is None  # asking changes nothing
    machine.stored({"a": digest("a")}, 1.0)
    assert machine.verdict("a", 1, digest("a")) is Verdict.ACCEPTED
    assert machine.verdict("a", 1, digest("other")) is Verdict.REJECTED


def test_the_twin_of_a_counted_update_is_accepted_after_the_close() -> None:
    machine = training({"a": 0.2})
    machine.stored({"a": digest("a")}, 1.0)
    assert machine.verdict("a", 1, digest("a")) is Verdict.ACCEPTED
    machine.open(2, Stage.TRAIN, LEVELS, 2.0)
    assert machine.verdict("a", 1, digest("a")) is Verdict.ACCEPTED
    assert machine.verdict("a", 1, digest("other")) is Verdict.LATE


def test_an_update_after_the_deadline_is_late() -> None:
    machine = training({"a": 0.2, "b": 0.1})
    machine.stored({"b": digest("b")}, 1.0)
    machine.tick(100.0)
    assert machine.verdict("a", 1, digest("a")) is Verdict.LATE
    machine.open(2, Stage.TRAIN, LEVELS, 101.0)
    assert machine.verdict("a", 1, digest("a")) is Verdict.LATE


def test_an_update_of_a_stranger_or_of_a_round_to_come_is_rejected() -> None:
    machine = training({"a": 0.2})
    assert machine.verdict("stranger", 1, digest("x")) is Verdict.REJECTED
    assert machine.verdict("a", 2, digest("x")) is Verdict.REJECTED


def test_an_update_for_a_round_that_gathers_again_is_late() -> None:
    machine = training({"a": 0.2})
    machine.tick(100.0)
    assert machine.verdict("a", 1, digest("a")) is Verdict.LATE
    machine.open(1, Stage.TRAIN, LEVELS, 101.0)
    assert machine.verdict("a", 1, digest("a")) is Verdict.LATE
    machine.answered("a", ready(0.2), 102.0)
    assert machine.verdict("a", 1, digest("a")) is None


def test_storing_what_was_not_asked_for_is_a_bug_here() -> None:
    machine = training({"a": 0.2})
    with pytest.raises(LocalProtocolError, match="stranger"):
        machine.stored({"stranger": digest("x")}, 1.0)
    machine.stored({"a": digest("a")}, 1.0)
    with pytest.raises(LocalProtocolError, match=r"\['a'\] were stored"):
        machine.stored({"a": digest("a")}, 1.0)


def test_all_of_a_batch_are_part_of_the_round_that_it_closes() -> None:
    """What is in the spool when a round closes is what the round was folded of."""
    machine = training({"a": 0.2, "b": 0.2, "c": 0.1, "d": 0.1}, quorum=0.5)
    batch = {device: digest(device) for device in "abc"}
    assert machine.stored(batch, 1.0) == [Close(round_id=1, devices=("a", "b", "c"))]
    assert machine.verdict("c", 1, digest("c")) is Verdict.ACCEPTED
    assert machine.verdict("d", 1, digest("d")) is Verdict.LATE


def test_a_round_cannot_be_opened_twice() -> None:
    machine = training({"a": 0.2})
    with pytest.raises(LocalProtocolError, match="OPENED cannot happen while TRAINING"):
        machine.open(2, Stage.TRAIN, LEVELS, 1.0)


# Restarts


def test_a_restarted_server_goes_on_with_its_cohort_and_what_was_delivered() -> None:
    machine = ServerRounds(policy(), started=True)
    effects = machine.open(
        4, Stage.TRAIN, LEVELS, 50.0, cohort={"a": 0.2, "b": 0.1}, delivered={"a": digest("a")}
    )
    assert effects == []
    assert machine.phase is Phase.TRAINING
    assert machine.seconds_left(50.0) == 100.0
    assert machine.verdict("a", 4, digest("a")) is Verdict.ACCEPTED
    assert machine.verdict("b", 4, digest("b")) is None
    assert machine.answered("b", ready(0.1, 4), 51.0) == [Assign(device="b", level=0.1)]
    assert machine.stored({"b": digest("b")}, 52.0) == [Close(round_id=4, devices=("a", "b"))]


def test_a_restarted_server_keeps_the_deadline_that_was_left() -> None:
    machine = ServerRounds(policy(), started=True)
    cohort = {"a": 0.2, "b": 0.1}
    machine.open(4, Stage.TRAIN, LEVELS, 50.0, cohort=cohort, seconds_left=7.0)
    machine.stored({"a": digest("a")}, 51.0)
    assert machine.tick(56.9) == []
    assert machine.tick(57.0) == [Close(round_id=4, devices=("a",))]


def test_a_restarted_server_whose_cohort_had_delivered_closes_at_once() -> None:
    machine = ServerRounds(policy(), started=True)
    effects = machine.open(
        4, Stage.TRAIN, LEVELS, 0.0, cohort={"a": 0.2}, delivered={"a": digest("a")}
    )
    assert effects == [Close(round_id=4, devices=("a",))]


def test_a_restarted_server_without_a_cohort_gathers_anew() -> None:
    machine = ServerRounds(policy(), started=True)
    assert machine.open(4, Stage.TRAIN, LEVELS, 0.0, cohort={}) == []
    assert machine.phase is Phase.GATHERING
    assert machine.cohort() == {}


def test_a_device_that_is_online_but_never_answers_is_waited_for_once() -> None:
    machine = ServerRounds(policy(min_devices=1), started=True)
    machine.device_online("ghost", 0.0)
    machine.device_online("a", 0.0)
    machine.open(1, Stage.TRAIN, LEVELS, 0.0)
    assert machine.answered("a", ready(0.2, 1), 0.0) == []
    assert Assign(device="a", level=0.2) in machine.tick(1e6)
    machine.stored({"a": "d"}, 1e6)
    machine.open(2, Stage.TRAIN, LEVELS, 1e6)
    assert machine.answered("a", ready(0.2, 2), 1e6) == [Assign(device="a", level=0.2)]
