"""A job goes on at the levels that it began with."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.course import Course
from aggregator.job import JobConfig, MethodConfig
from aggregator.open_round import MemoryJobs
from fedsparse.errors import ConfigError
from fedsparse.plan.zoo import PLANS

PLAN = PLANS["digits"]()


def job(folder: Path, *levels: float) -> JobConfig:
    method = MethodConfig(name="pdst", levels=levels)
    return JobConfig(
        name="j", site="s", plan=folder / "p.json", output=folder, rounds=2, method=method
    )


def test_other_levels_than_those_of_the_checkpoint_are_refused(tmp_path: Path) -> None:
    begun = Course(job(tmp_path, 0.2, 0.1), PLAN, MemoryJobs(), evaluate_on_devices=False)
    begun.start((0.2, 0.1))
    with pytest.raises(ConfigError, match=r"\[0\.2, 0\.1\].*\[0\.5, 0\.1\].*output"):
        Course(job(tmp_path, 0.5, 0.1), PLAN, MemoryJobs(), evaluate_on_devices=False)


def test_levels_that_no_device_could_hold_may_still_stand_in_the_file(tmp_path: Path) -> None:
    begun = Course(job(tmp_path, 0.5, 0.2, 0.1), PLAN, MemoryJobs(), evaluate_on_devices=False)
    begun.start((0.2, 0.1))
    again = Course(job(tmp_path, 0.5, 0.2, 0.1), PLAN, MemoryJobs(), evaluate_on_devices=False)
    assert again.resumed
    assert again.model.levels == (0.2, 0.1)
