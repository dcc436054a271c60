"""What a trainer says, and leaves behind, when a task cannot be done."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trainer_runs import ROOT, Job, calibrate, run_trainer, train, write_data, write_task

from aggregator.models.training_graph import plan_graph
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.request import (
    EXIT_BAD_DATA,
    EXIT_NO_MEMORY,
    EXIT_REFUSED,
    CalibrateRequest,
)
from fedsparse.plan.builder import PlanBuilder
from fedsparse.plan.zoo import PLANS
from fedsparse.stored import load_message
from fedsparse.wire.messages import Update

DIGITS = Job(plan=PLANS["digits"](), batch_size=16)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("learning_rate", [1e4, 1e14])
def test_training_that_diverges_stops_and_leaves_no_update(
    tmp_path: Path, learning_rate: float
) -> None:
    job = replace(DIGITS, learning_rate=learning_rate, epochs=20, examples=256)
    request = write_task(tmp_path, job)
    done = run_trainer(tmp_path, request)
    assert done.returncode == EXIT_REFUSED
    assert "training diverged" in last_line(done)
    assert "lower the learning rate" in last_line(done)
    assert not Path(request.output).exists()


def test_samples_of_another_shape_are_the_devices_own_fault(tmp_path: Path) -> None:
    request = write_task(tmp_path, DIGITS)
    write_data(tmp_path / "data.npz", PLANS["watch"](), 8)
    done = run_trainer(tmp_path, request)
    assert done.returncode == EXIT_BAD_DATA
    assert "shape" in last_line(done)


def test_a_setup_of_an_engine_that_is_not_here_is_refused(tmp_path: Path) -> None:
    request = write_task(
        tmp_path, replace(DIGITS, setup=EngineSetup(engine="graph", micro_batch=4))
    )
    done = run_trainer(tmp_path, request)
    assert done.returncode == EXIT_REFUSED
    assert "graph" in last_line(done)


def test_the_graph_engine_does_a_task_where_it_was_chosen(tmp_path: Path) -> None:
    request = write_task(tmp_path, DIGITS)
    (tmp_path / "training.graph").write_bytes(plan_graph(DIGITS.plan).to_bytes())
    setup = EngineSetup(engine="graph", micro_batch=8)
    chosen = replace(request, setup=setup, graph=str(tmp_path / "training.graph"))
    losses = []
    for asked in (request, chosen):
        done = run_trainer(tmp_path, asked)
        assert done.returncode == 0, done.stderr
        message, _ = load_message(Path(request.output))
        assert isinstance(message, Update)
        losses.append(message.loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_trainer_that_is_refused_memory_says_so(tmp_path: Path) -> None:
    job = Job(plan=PLANS["cifar10"](), batch_size=512, examples=8, holdout=0.0)
    request = write_task(tmp_path, job)
    done = run_trainer(tmp_path, request, address_bytes=400 * 2**20)
    assert done.returncode == EXIT_NO_MEMORY
    assert last_line(done).startswith("out of memory: ")
    assert "memory_mib" in last_line(done)
    assert not Path(request.output).exists()


def test_the_same_task_fits_in_micro_batches(tmp_path: Path) -> None:
    job = Job(plan=PLANS["cifar10"](), batch_size=512, examples=8, holdout=0.0)
    request = write_task(tmp_path, replace(job, setup=EngineSetup(micro_batch=4)))
    done = run_trainer(tmp_path, request, address_bytes=400 * 2**20)
    assert done.returncode == 0, done.stderr
    assert Path(request.output).exists()


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_broken_kernels_are_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    shutil.copytree(ROOT / "edge_client", tmp_path / "edge_client")
    library = tmp_path / "edge_client" / "runtime" / "native" / "libfedsparse.so"
    library.unlink()
    if damage == "corrupt":
        library.write_bytes(b"\x7fELF" + bytes(5000))
    request = write_task(tmp_path / "task", DIGITS)
    measure = CalibrateRequest(
        plan=request.plan,
        levels=(0.2,),
        kept=(DIGITS.kept,),
        batch_size=4,
        output=str(tmp_path / "calibration.json"),
        threads=1,
    )
    for asked in (request, measure):
        done = run_trainer(tmp_path, asked, cwd=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
        assert done.returncode == EXIT_REFUSED
        assert "native kernels" in last_line(done)
        assert "install fedsparse again" in last_line(done)
    assert not Path(request.output).exists()


def normalised_vectors() -> Job:
    """Batch-norm over one value a channel: a lone sample has no variance at all."""
    builder = PlanBuilder("vectors", (6,))
    builder.linear("first", 8)
    builder.batch_norm("norm")
    builder.relu()
    builder.linear("last", 3)
    return Job(plan=builder.build(), density=0.5, holdout=0.0)


@pytest.mark.parametrize(("examples", "micro_batch"), [(17, 16), (17, 4), (9, 8), (21, 4), (5, 4)])
def test_a_last_batch_of_any_size_trains_with_batch_norm(
    tmp_path: Path, examples: int, micro_batch: int
) -> None:
    setup = EngineSetup(micro_batch=micro_batch)
    job = replace(normalised_vectors(), batch_size=16, examples=examples, setup=setup)
    update = train(tmp_path, job)
    assert update.num_examples == examples
    assert update.loss > 0


def test_batch_norm_over_vectors_refuses_batches_of_one(tmp_path: Path) -> None:
    request = write_task(tmp_path, replace(normalised_vectors(), batch_size=1))
    done = run_trainer(tmp_path, request)
    assert done.returncode == EXIT_REFUSED
    assert "no variance for batch-norm 'norm'" in last_line(done)


def test_batch_norm_over_feature_maps_trains_on_batches_of_one(tmp_path: Path) -> None:
    update = train(tmp_path, Job(plan=PLANS["cifar10"](), batch_size=1, examples=4, holdout=0.0))
    assert np.isfinite(update.loss)
    assert update.loss > 0


def test_calibration_leaves_what_a_budget_reads(tmp_path: Path) -> None:
    calibration = calibrate(tmp_path, DIGITS)
    assert calibration.covers(DIGITS.plan.digest, 16, (0.2,))
    assert calibration.baseline_bytes > 10 * 2**20
