"""Calibration on the real kernels."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from engine_plans import residual_plan

from edge_client.runtime.calibrate import calibrate
from fedsparse.plan import Loss


def counts(share: float) -> list[int]:
    return [max(1, round(share * tensor.size)) for tensor in residual_plan().prunable]


@pytest.mark.parametrize("loss", list(Loss))
def test_every_level_is_timed(loss: Loss) -> None:
    levels = [counts(share) for share in (0.05, 0.5)]
    plan = replace(residual_plan(), loss=loss)
    step_s = calibrate(plan, levels, 4, rng=np.random.default_rng(0), budget_s=0.05)
    assert len(step_s) == 2
    assert all(0 < seconds < 1 for seconds in step_s)


def test_a_slow_machine_takes_two_steps_of_each_level_and_no_more() -> None:
    ticks = itertools.count(step=10)
    step_s = calibrate(
        residual_plan(),
        [counts(0.1)] * 3,
        4,
        rng=np.random.default_rng(0),
        clock=lambda: float(next(ticks)),
    )
    assert step_s == (10.0, 10.0, 10.0)
    assert next(ticks) <= 10 * 3 * 6
