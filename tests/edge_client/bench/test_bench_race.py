"""Workers driven in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_client.bench.case import Case, kept_at, write_case
from edge_client.bench.race import (
    DEVICE_ENVIRONMENT,
    Contestant,
    Worker,
    WorkerError,
    draw_inputs,
    python_module,
    race,
)
from edge_client.runtime.cost import sparse_cost
from fedsparse.plan.zoo import digits_plan

ROOT = Path(__file__).parents[3]
PLAN = digits_plan()


def contestant(folder: Path, density: float) -> Contestant:
    write_case(folder, PLAN, Case(kept=kept_at(PLAN, density), batch_size=8))
    return Contestant(
        name=f"sparse {density}",
        command=python_module("edge_client.bench.worker", str(folder), "sparse"),
        environment=DEVICE_ENVIRONMENT,
    )


def test_every_contestant_does_all_rounds_and_tells_its_memory(tmp_path: Path) -> None:
    folders = [tmp_path / "low", tmp_path / "high"]
    both = [
        contestant(folder, density) for folder, density in zip(folders, (0.1, 1.0), strict=True)
    ]
    draw_inputs(folders)
    shares: list[float] = []
    results = race(
        both, rounds=3, block_s=0.01, mask_changes=2, progress=lambda _, share: shares.append(share)
    )
    assert list(results) == ["sparse 0.1", "sparse 1.0"]
    for result, density in zip(results.values(), (0.1, 1.0), strict=True):
        assert len(result.blocks) == 3
        assert 0 < result.step_s < 1
        assert result.mask_change_s > 0
        needed = sparse_cost(PLAN, kept_at(PLAN, density), 8).peak_bytes
        grown = result.peak_bytes - result.facts["baseline_bytes"]
        assert grown <= 1.15 * needed + 1_000_000
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] < 1


def test_a_worker_that_cannot_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"(?s)'sparse 0\.5' ended with code 2:.*holds no case"):
        race(
            [
                Contestant(
                    name="sparse 0.5",
                    command=python_module("edge_client.bench.worker", str(tmp_path), "sparse"),
                    environment={},
                )
            ],
            rounds=1,
            block_s=0.01,
        )


def test_a_worker_that_is_killed_is_named_with_the_signal(tmp_path: Path) -> None:
    one = contestant(tmp_path, 0.1)
    draw_inputs([tmp_path])
    with Worker(one) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"'sparse 0\.1' died of SIGKILL, .*memory"):
            worker.ask({"steps": 1})


def test_a_worker_that_is_silent_is_given_up(tmp_path: Path) -> None:
    one = contestant(tmp_path, 0.1)
    draw_inputs([tmp_path])
    with pytest.raises(WorkerError, match="said nothing for 0 s"):
        Worker(one, patience_s=0.001)  # no interpreter starts so fast


def test_arrays_that_cannot_be_drawn_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="holds no case"):
        draw_inputs([tmp_path])


def test_driving_workers_needs_no_numpy() -> None:
    code = "import sys, edge_client.bench.race; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
