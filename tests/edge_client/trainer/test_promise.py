"""The promise: a device that accepts a level is not killed for memory, and meets its deadline.

Real trainers in real control groups, at the edge of what they are given. `-m e2e` tries more plans,
levels and limits; with `-s` it prints each of them.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from promise_bench import MIB, Device, Trial
from real_groups import require_groups
from trainer_runs import Job

from edge_client.emulation.confine import confine
from edge_client.emulation.report import Resource
from fedsparse.plan.zoo import PLANS

# A trainer maps code that its agent has in memory already, and that is counted twice; and a kernel
# that runs short drops code that it can read again. Measured: 15 to 16 MiB, whatever the model.
CODE_BYTES = 20 * MIB
LEVELS = (1.0, 0.5, 0.2, 0.05)


def assert_kept(trial: Trial) -> None:
    assert trial.survived, trial.line()
    assert trial.result["seconds"] <= trial.result["deadline_s"], trial.line()


def test_what_is_accepted_at_the_edge_of_memory_is_trained_and_no_sooner_declined(
    tmp_path: Path,
) -> None:
    device = Device(tmp_path, Job(plan=PLANS["mnist"](), examples=64), levels=(0.5, 0.05))
    roomy = device.attempt(512 * MIB, "decide")
    assert roomy.result["level"] == 0.5
    edge = device.edge(low=30 * MIB, high=roomy.result["predicted_bytes"])
    assert_kept(edge)
    short = device.attempt(edge.limit_bytes - CODE_BYTES, "forced")
    assert not short.accepted, short.line()
    assert short.result["no_memory"], f"it declines too soon: {short.line()}"


def test_kernels_are_measured_in_the_memory_that_training_may_take(tmp_path: Path) -> None:
    """The whole batch at the largest level would take more than there is."""
    device = Device(tmp_path, Job(plan=PLANS["cifar10"](), examples=64), levels=(1.0, 0.05))
    least = device.attempt(30 * MIB, "decide").result["predicted_bytes"]
    device.forget_speed()
    trial = device.attempt(least - 6 * MIB)  # of which 10 are code that is counted twice
    assert trial.accepted, trial.line()
    assert_kept(trial)


@pytest.mark.e2e
@pytest.mark.parametrize("model", ["digits", "watch", "mnist", "cifar10"])
@pytest.mark.parametrize("how", ["still", "evolving", "powers"])
def test_whatever_is_accepted_near_any_edge_is_trained(
    tmp_path: Path, model: str, how: str
) -> None:
    """Limits just above each edge, and anywhere between them."""
    job = Job(
        plan=PLANS[model](),
        examples=96,
        evolve=how == "evolving",
        power=1.25 if how == "powers" else 1.0,
    )
    device = Device(tmp_path, job, LEVELS)
    roomy = device.attempt(1024 * MIB)
    assert_kept(roomy)
    high = roomy.result["predicted_bytes"]
    first = device.edge(low=25 * MIB, high=high)
    draws = random.Random(f"{model} {how}")
    between = sorted(draws.randint(first.limit_bytes, high) for _ in range(6))
    trials = [first, *(device.attempt(limit) for limit in between)]
    for trial in trials:
        print(f"{model} {how}: {trial.line()}")  # noqa: T201
        if trial.accepted:
            assert_kept(trial)
    assert trials[-1].accepted
    short = device.attempt(first.limit_bytes - CODE_BYTES, "forced")
    print(f"{model} {how}: {short.line()}")  # noqa: T201
    assert not short.survived, f"it declines too soon: {short.line()}"


@pytest.mark.e2e
def test_a_board_that_has_become_slow_is_forecast_rightly_after_one_task(tmp_path: Path) -> None:
    """Calibrated with a whole core, it trains with a quarter of one."""
    job = Job(plan=PLANS["mnist"](), examples=512, holdout=0.0, epochs=30)
    device = Device(tmp_path, job, levels=(0.5,))
    with confine(cpu=0.25) as place:
        require_groups(place, Resource.CPU)
        first, second = device.run(place), device.run(place)
    print(first, second)  # noqa: T201
    assert first["seconds"] > 1.2 * first["predicted_s"]
    assert second["seconds"] == pytest.approx(second["predicted_s"], rel=0.3)
    assert "x calibrated" in second["reason"]
