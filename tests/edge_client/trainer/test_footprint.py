"""The memory that a budget expects of a trainer against what the kernel counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trainer_runs import Job, calibrate, train

from edge_client.data.holdout import holdout_sizes
from edge_client.runtime.engine_cost import engine_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.footprint import SampleCounts, samples_bytes, training_bytes
from fedsparse.plan.zoo import PLANS

MB = 1e6


@pytest.fixture(scope="module")
def baseline_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Of any plan: it is the memory before there is one.

    The second time: the first process after an installation compiles the modules, in its memory.
    """
    job = Job(plan=PLANS["digits"](), batch_size=4)
    for name in ("first", "again"):
        found = calibrate(tmp_path_factory.mktemp(name), job).baseline_bytes
    return found


def predicted_bytes(job: Job) -> int:
    setup = job.setup or EngineSetup(micro_batch=job.batch_size)
    engine = engine_cost(job.plan, job.kept, job.batch_size, setup).peak_bytes
    trained, held_out = holdout_sizes(job.examples, job.holdout)
    samples = samples_bytes(job.plan, SampleCounts(trained=trained, held_out=held_out))
    return samples + training_bytes(
        job.plan, job.kept, job.batch_size, engine, evolves=job.evolve, probes=job.power != 1.0
    )


def assert_as_predicted(
    folder: Path, baseline_bytes: int, job: Job, spare_bytes: float = MB
) -> None:
    """Within 15 % or `spare_bytes`, and hardly below: a device must not run out of memory."""
    measured = train(folder, job).peak_rss_bytes - baseline_bytes
    predicted = predicted_bytes(job)
    assert 0.97 * measured <= predicted <= max(1.15 * measured, measured + spare_bytes)


@pytest.mark.parametrize(
    ("model", "density", "batch_size", "micro_batch", "evolve"),
    [
        ("mnist", 0.05, 1, 1, False),
        ("mnist", 0.2, 32, 32, False),
        ("mnist", 0.2, 32, 4, True),
        ("watch", 0.1, 8, 8, False),
        ("watch", 1.0, 32, 32, True),
        ("watch", 0.5, 32, 8, False),
        ("cifar10", 0.05, 32, 8, False),
        ("cifar10", 0.1, 32, 32, True),
        ("cifar10", 1.0, 8, 8, False),
    ],
)
def test_a_task_takes_the_memory_that_was_predicted(
    tmp_path: Path,
    baseline_bytes: int,
    model: str,
    density: float,
    batch_size: int,
    micro_batch: int,
    evolve: bool,
) -> None:
    job = Job(
        plan=PLANS[model](),
        density=density,
        batch_size=batch_size,
        evolve=evolve,
        setup=EngineSetup(micro_batch=micro_batch),
    )
    assert_as_predicted(tmp_path, baseline_bytes, job)


@pytest.mark.parametrize(("down", "up"), [("f32", "i8"), ("i8", "i8"), ("f32", "f16")])
def test_rounded_values_take_no_more_than_the_engine_had(
    tmp_path: Path, baseline_bytes: int, down: str, up: str
) -> None:
    """What is sent is encoded where the engine was: change, steps and residual."""
    setup = EngineSetup(micro_batch=1)
    plan = PLANS["cifar10"]()
    job = Job(plan=plan, density=1.0, batch_size=1, setup=setup, examples=8, up=up, down=down)
    assert_as_predicted(tmp_path, baseline_bytes, job)


def test_dense_layers_take_the_memory_that_was_predicted(
    tmp_path: Path, baseline_bytes: int
) -> None:
    plan = PLANS["mnist"]()
    setup = EngineSetup(micro_batch=16, dense_layers=("conv2.weight", "fc1.weight"))
    job = Job(plan=plan, density=0.5, setup=setup)
    assert_as_predicted(tmp_path, baseline_bytes, job)


def test_samples_count_whether_they_are_trained_on_or_held_out(
    tmp_path: Path, baseline_bytes: int
) -> None:
    job = Job(plan=PLANS["mnist"](), density=0.05, examples=4_000, batch_size=512, holdout=0.75)
    divided = replace(job, setup=EngineSetup(micro_batch=8))
    assert_as_predicted(tmp_path, baseline_bytes, divided, spare_bytes=0)


@pytest.mark.parametrize(
    ("model", "density"), [("watch", 0.05), ("watch", 0.1), ("mnist", 1.0), ("cifar10", 0.5)]
)
def test_training_powers_takes_the_memory_that_was_predicted(
    tmp_path: Path, baseline_bytes: int, model: str, density: float
) -> None:
    """A step's weights are held twice, and moved a part at a time."""
    job = Job(plan=PLANS[model](), density=density, batch_size=8, power=1.25)
    assert_as_predicted(tmp_path, baseline_bytes, job)
