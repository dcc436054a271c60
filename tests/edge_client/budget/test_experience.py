"""What a choice takes from before: masks held, what tasks took, the level of the last offers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from budget_world import (
    LEVELS,
    MIB,
    PLAN,
    FakeHost,
    calibration,
    choose,
    deadlines,
    kept_at,
    memories,
    offer,
    peak_bytes,
    rates,
    round_s,
)
from hypothesis import given
from hypothesis import strategies as st

from edge_client.budget.correction import AGENT_S, Correction, Observation
from edge_client.budget.decide import Experience
from edge_client.budget.hysteresis import Hold, step_down
from edge_client.budget.policy import Ruling, Verdict
from edge_client.config import BudgetConfig

# What the agent takes already


def test_on_a_machine_the_agent_is_no_part_of_what_is_still_available() -> None:
    """It is there already: the trainer alone must fit into the share of the rest."""
    trainer = peak_bytes(0.2) - 20 * MIB
    whole = BudgetConfig(memory_fraction=1.0)
    exact = FakeHost(available_mib=trainer / MIB, emulated=False)
    assert choose(exact, budget=whole).level == 0.2
    assert choose(replace(exact, emulated=True), budget=whole).level is None
    short = replace(exact, available_mib=trainer / MIB - 0.01)
    assert choose(short, budget=whole).level == 0.1


# Masks on their way


def test_a_mask_that_is_not_here_and_one_that_moves_are_sent_as_bits_at_most() -> None:
    digests = ("ab" * 32, "cd" * 32, "")
    mask_s = math.ceil(PLAN.num_prunable / 8) / 1000
    masked = replace(offer(), mask_digests=digests)
    rows = choose(FakeHost(down=1000.0), offer=masked).rows
    plain = choose(FakeHost(down=1000.0)).rows
    extra = [a.transfer_s - b.transfer_s for a, b in zip(rows, plain, strict=True)]
    assert extra == pytest.approx([mask_s, mask_s, 0.0])
    known = Experience(held_masks=("ab" * 32,))
    rows = choose(FakeHost(down=1000.0), offer=masked, experience=known).rows
    assert rows[0].transfer_s == pytest.approx(plain[0].transfer_s)
    moving = choose(FakeHost(up=1000.0), offer=replace(offer(), evolve=True)).rows[0]
    still = choose(FakeHost(up=1000.0)).rows[0]
    assert moving.transfer_s - still.transfer_s == pytest.approx(mask_s)


# What earlier tasks really took


def after(*observations: Observation) -> Experience:
    return Experience(correction=Correction(observations=observations))


def test_a_board_that_trains_slower_than_calibrated_is_forecast_to() -> None:
    slow = after(Observation(time_ratio=3.0, start_s=5.0))
    plain, corrected = choose(FakeHost()).rows[0], choose(FakeHost(), experience=slow).rows[0]
    assert corrected.training_s == pytest.approx(3 * plain.training_s)
    assert corrected.round_s == pytest.approx(5.0 + AGENT_S + 3 * plain.training_s)
    assert corrected.foretold == plain.foretold  # of which the next ratio is taken
    assert "(3 x calibrated, transfer not counted)" in choose(FakeHost(), experience=slow).reason


def test_a_slow_board_takes_a_smaller_level_though_its_calibration_was_fast() -> None:
    deadline = round_s(0.2, 1e8) + 0.01
    slow = after(Observation(time_ratio=1.5))
    assert choose(FakeHost(rate=1e8), deadline).level == 0.2
    assert choose(FakeHost(rate=1e8), deadline, experience=slow).level == 0.1


def test_a_trainer_that_took_more_than_was_forecast_is_given_more() -> None:
    more = after(Observation(memory_ratio=1.25))
    plain, corrected = choose(FakeHost()).rows[0], choose(FakeHost(), experience=more).rows[0]
    trainer = plain.peak_bytes - 20 * MIB
    assert corrected.peak_bytes == 20 * MIB + math.ceil(1.25 * trainer)
    assert "MiB (1.2 x forecast)" in choose(FakeHost(), experience=more).reason


def test_a_board_that_is_throttled_now_says_so() -> None:
    assert "throttled now" in choose(FakeHost(throttled=True)).reason
    for told in (False, None):
        assert "throttled" not in choose(FakeHost(throttled=told)).reason


# What was taken before


def held(level: float) -> Experience:
    first = choose(FakeHost()).hold
    assert first is not None
    return Experience(hold=replace(first, level=level, round_id=0))


def test_a_higher_level_waits_until_it_had_room_for_some_offers() -> None:
    known, levels = held(0.1), []
    for round_id in range(1, 5):
        decision = choose(FakeHost(), experience=known, offer=replace(offer(), round_id=round_id))
        levels.append(decision.level)
        known = replace(known, hold=decision.hold)
        if round_id == 1:
            assert decision.reason.endswith("; 0.2 would fit, and waits (1 of 3 offers)")
    assert levels == [0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize("scarce", ["memory", "time"])
def test_a_level_is_not_raised_to_what_only_just_fits(scarce: str) -> None:
    host, deadline = FakeHost(rate=1e8), round_s(0.2, 1e8) * 1.09
    if scarce == "memory":
        host, deadline = FakeHost(available_mib=2 * peak_bytes(0.2) / MIB * 1.09), 1000.0
    known = held(0.1)
    for round_id in range(1, 9):
        decision = choose(host, experience=known, offer=replace(offer(deadline), round_id=round_id))
        assert decision.level == 0.1
        known = replace(known, hold=decision.hold)
    assert decision.reason.endswith("; 0.2 would fit, and waits (not enough to spare)")
    assert choose(host, deadline).level == 0.2  # a device that held nothing takes it


def test_a_broken_promise_is_said_in_the_next_reason() -> None:
    before = held(0.2).hold
    assert before is not None
    lower = Experience(hold=step_down(before, 0.2, LEVELS, "killed for memory at 0.2 in round 3"))
    decision = choose(FakeHost(), experience=lower)
    assert decision.level == 0.1
    assert decision.reason.endswith("; before: killed for memory at 0.2 in round 3")
    declined = choose(FakeHost(available_mib=80), experience=lower)
    assert declined.reason.endswith("(has 40); before: killed for memory at 0.2 in round 3")


def test_what_a_policy_forbids_is_declined_and_forgets_nothing() -> None:
    because = Ruling(rule="hours", allows=False, because="it is 12:00, allowed 22:00-06:30")
    known = replace(held(0.1), verdict=Verdict(rulings=(because,)))
    decision = choose(FakeHost(), experience=known)
    assert decision.level is None
    assert decision.reason == "declined by policy: it is 12:00, allowed 22:00-06:30"
    assert decision.hold == known.hold
    assert decision.rows[0].fits


@given(
    memory=memories,
    rate=rates,
    deadline=deadlines,
    level=st.sampled_from(LEVELS),
    slower=st.floats(0, 100),
    larger=st.floats(0, 100),
    offers=st.integers(0, 5),
)
def test_whatever_is_remembered_a_level_that_does_not_fit_is_never_taken(
    memory: float,
    rate: float,
    deadline: float,
    level: float,
    slower: float,
    larger: float,
    offers: int,
) -> None:
    before = held(level).hold
    assert isinstance(before, Hold)
    known = Experience(
        hold=replace(before, rising=0.2, offers=offers),
        correction=Correction(observations=(Observation(time_ratio=slower, memory_ratio=larger),)),
    )
    decision = choose(FakeHost(available_mib=memory, rate=rate), deadline, experience=known)
    assert (decision.level is None) == (not any(row.fits for row in decision.rows))
    if decision.chosen is not None:
        assert decision.chosen.fits
        assert decision.chosen.peak_bytes <= memory / 2 * MIB
        assert decision.chosen.round_s <= deadline


def test_the_time_of_masks_that_move_is_corrected_as_steps_are_and_leaves_headroom() -> None:
    slow = after(Observation(time_ratio=3.0, start_s=5.0))
    asked = {"offer": replace(offer(), evolve=True), "calibration": calibration(evolve_s=20.0)}
    row = choose(FakeHost(), experience=slow, **asked).rows[-1]
    steps_s = 10 * 1000 * kept_at(0.05) * 32 / 1e9
    assert row.round_s == pytest.approx(5.0 + AGENT_S + 3 * (steps_s + 20.0))
    plain = choose(FakeHost(), **asked).rows[-1]
    headroom = 1 + BudgetConfig().headroom
    for spare_s, spare in ((1.0, True), (-1.0, False)):
        deadline_s = headroom * plain.round_s + spare_s
        hurried = asked | {"offer": replace(offer(deadline_s), evolve=True)}
        late = choose(FakeHost(), **hurried)
        assert late.rows[-1].spare is spare


def test_a_mask_that_moves_is_not_sent_where_no_values_are() -> None:
    asked = replace(offer(), evolve=True, up_codec="")
    assert choose(FakeHost(up=1000.0), offer=asked).rows[0].transfer_s == 0.0
