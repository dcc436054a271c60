"""Calibration on the real kernels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from engine_plans import residual_plan

from edge_client.runtime.calibrate import calibrate, resident_bytes


def counts(share: float) -> list[int]:
    return [max(1, round(share * tensor.size)) for tensor in residual_plan().prunable]


def test_every_level_is_timed_and_the_baseline_is_this_process() -> None:
    levels = [counts(share) for share in (0.05, 0.5)]
    measured = calibrate(residual_plan(), levels, 4, rng=np.random.default_rng(0), budget_s=0.05)
    assert len(measured.seconds_per_step) == 2
    assert all(0 < seconds < 1 for seconds in measured.seconds_per_step)
    assert measured.baseline_bytes == pytest.approx(resident_bytes(), rel=0.3)


def test_a_slow_machine_takes_two_steps_of_each_level_and_no_more() -> None:
    ticks = itertools.count(step=10)
    measured = calibrate(
        residual_plan(),
        [counts(0.1)] * 3,
        4,
        rng=np.random.default_rng(0),
        clock=lambda: float(next(ticks)),
    )
    assert measured.seconds_per_step == (10.0, 10.0, 10.0)
    assert next(ticks) <= 10 * 3 * 6
