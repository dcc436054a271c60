"""Forecasts are corrected by what tasks really took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.budget.correction import (
    AGENT_S,
    ENOUGH,
    FASTEST,
    KILLED_FOR_MEMORY,
    MAX_START_S,
    MOST_MEMORY,
    SLOWEST,
    TRAINER_START_S,
    WINDOW,
    Correction,
    Foretold,
    Observation,
    observe,
    too_late,
)
from fedsparse.errors import DataError

FORETOLD = Foretold(training_s=10.0, trainer_bytes=100)


def of_times(*ratios: float) -> Correction:
    correction = Correction(calibration="x")
    for ratio in ratios:
        correction = correction.after(Observation(time_ratio=ratio))
    return correction


def test_without_a_task_a_forecast_is_taken_as_it_is() -> None:
    none = Correction()
    assert (none.time_factor, none.memory_factor, none.start_s) == (1.0, 1.0, TRAINER_START_S)


def test_a_board_that_has_become_slow_is_believed_at_once() -> None:
    assert of_times(1.0, 1.0, 1.0, 3.0).time_factor == 3.0
    assert of_times(3.0).time_factor == 3.0


def test_one_slow_task_is_forgiven_by_the_next_good_one() -> None:
    assert of_times(1.0, 1.0, 3.0, 1.0).time_factor == 1.0


def test_a_board_that_is_slow_for_good_stays_forecast_so() -> None:
    assert of_times(3.0, 3.1, 2.9, 3.0).time_factor == 3.0
    assert of_times(3.0, 3.0, 3.0, 1.0).time_factor == 3.0  # one fast task is an exception
    assert of_times(3.0, 3.0, 1.0, 1.0, 1.0).time_factor == 1.0


def test_a_board_is_faster_than_calibrated_only_after_enough_tasks() -> None:
    assert of_times(*[0.7] * (ENOUGH - 1)).time_factor == 1.0
    assert of_times(*[0.7] * ENOUGH).time_factor == 0.7
    assert of_times(*[0.7] * ENOUGH, 0.9).time_factor == 0.9


def test_memory_forecasts_only_grow_and_old_peaks_are_forgotten() -> None:
    seen = Correction().after(Observation(memory_ratio=1.3))
    assert seen.memory_factor == 1.3
    assert Correction().after(Observation(memory_ratio=0.4)).memory_factor == 1.0
    for _ in range(WINDOW):
        assert seen.memory_factor == 1.3
        seen = seen.after(Observation(memory_ratio=0.9))
    assert seen.memory_factor == 1.0


def test_each_trainer_that_is_killed_raises_the_next_forecast() -> None:
    once = Correction().killed_for_memory()
    assert once.memory_factor == pytest.approx(KILLED_FOR_MEMORY)
    assert once.killed_for_memory().memory_factor == pytest.approx(KILLED_FOR_MEMORY**2)
    assert once.time_factor == 1.0


def test_what_a_task_took_is_compared_to_what_was_foretold_of_it() -> None:
    seen = observe(FORETOLD, training_s=25.0, trainer_s=29.0, peak_bytes=110)
    assert seen == Observation(time_ratio=2.5, memory_ratio=1.1, start_s=4.0)
    corrected = Correction().after(seen)
    assert corrected.time_factor * FORETOLD.training_s == 25.0
    assert corrected.start_s == 4.0 + AGENT_S


def test_a_trainer_that_starts_quickly_is_believed_after_some_tasks() -> None:
    correction = Correction()
    for start_s in (0.4, 0.7, 0.5):
        assert correction.start_s == TRAINER_START_S
        correction = correction.after(Observation(time_ratio=1.0, start_s=start_s))
    assert correction.start_s == 0.7 + AGENT_S


def test_a_clock_that_says_nothing_corrects_nothing() -> None:
    emulated = observe(FORETOLD, training_s=None, trainer_s=None, peak_bytes=110)
    assert emulated == Observation(memory_ratio=1.1)


def test_what_a_short_task_takes_beyond_its_training_counts_to_its_start() -> None:
    """A hundredth of a second that took a third is no board that is thirty times as slow."""
    short = Foretold(training_s=0.01, trainer_bytes=100)
    seen = observe(short, training_s=0.3, trainer_s=5.0, peak_bytes=0)
    assert seen == Observation(time_ratio=None, memory_ratio=0.0, start_s=4.99)
    corrected = Correction().after(seen)
    assert (corrected.time_factor, corrected.memory_factor) == (1.0, 1.0)
    # And so the next forecast is right.
    assert corrected.start_s + short.training_s == 5.0 + AGENT_S


def test_a_trainer_that_was_ended_at_its_deadline_took_the_rest_of_the_time() -> None:
    assert too_late(FORETOLD, start_s=2.0, limit_s=42.0).time_ratio == 4.0
    assert too_late(FORETOLD, start_s=2.0, limit_s=3.0).time_ratio == 1.0
    short = too_late(Foretold(training_s=0.0, trainer_bytes=1), start_s=2.0, limit_s=9.0)
    assert short == Observation(start_s=9.0)


ratios = st.none() | st.floats(0, 1e6)
observations = st.builds(
    Observation, time_ratio=ratios, memory_ratio=st.floats(0, 1e6), start_s=ratios
)


@given(seen=st.lists(observations, max_size=12))
def test_corrections_are_bounded_and_survive_the_disk(seen: list[Observation]) -> None:
    correction = Correction(calibration="ab")
    for one in seen:
        correction = correction.after(one)
    assert FASTEST <= correction.time_factor <= SLOWEST
    assert 1.0 <= correction.memory_factor <= MOST_MEMORY
    assert 0.0 <= correction.start_s <= MAX_START_S
    known = [one for one in correction.observations if one.start_s is not None]
    assert correction.start_s >= TRAINER_START_S or len(known) >= ENOUGH
    assert len(correction.observations) <= WINDOW
    assert Correction.from_json(correction.to_json()) == correction


@given(seen=st.lists(observations, min_size=1, max_size=12), last=st.floats(1.0, SLOWEST))
def test_after_a_slow_task_the_next_forecast_is_at_least_as_long(
    seen: list[Observation], last: float
) -> None:
    correction = Correction(observations=tuple(seen)).after(Observation(time_ratio=last))
    assert correction.time_factor >= last


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "[" * 100_000, '{"version": 9}',
        '{"version": 1, "calibration": "", "observations": [3]}',
        '{"version": 1, "calibration": "", "observations": '
        '[{"time_ratio": NaN, "memory_ratio": 1, "start_s": null}]}',
        '{"version": 1, "calibration": "", "observations": '
        '[{"time_ratio": -1, "memory_ratio": 1, "start_s": null}]}',
    ],
)  # fmt: skip
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="begin afresh"):
        Correction.from_json(text)


def test_the_agents_own_work_is_allowed_half_a_second() -> None:
    quick = Observation(time_ratio=1.0, start_s=0.7)
    assert Correction(observations=(quick,) * 3).start_s == pytest.approx(1.2)
    assert Correction(observations=(quick,) * 2).start_s == 2.0
