"""What the encoding of an update lost, on a device's disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_client.trainer.masks import save_mask
from edge_client.trainer.residual import load_residual, save_residual
from edge_client.trainer.work import Residual
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.packing import mask_digest
from fedsparse.wire.messages import Part, Stage, Task


def small() -> PlanBuilder:
    builder = PlanBuilder("p", (7,))
    builder.linear("last", 3)
    return builder


PLAN = small().build()
MASK = np.arange(PLAN.num_prunable) % 3 == 0
DIGEST = mask_digest(PLAN.digest, MASK)
RESIDUAL = Residual(mask=MASK, values=np.linspace(-1, 1, int(MASK.sum()), dtype=np.float32))
TASK = Task(
    job="job",
    round_id=4,
    attempt=0,
    stage=Stage.TRAIN,
    plan_digest=PLAN.digest,
    parts=(Part(name="values", codec="f32", size=4),),
)
NEXT = replace(TASK, round_id=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_mask(tmp_path, DIGEST, MASK)
    save_residual(tmp_path / "residual", TASK, DIGEST, RESIDUAL)
    return tmp_path / "residual"


def test_it_comes_back_for_the_next_task(path: Path) -> None:
    found = load_residual(path, NEXT, PLAN, path.parent)
    assert found is not None
    assert np.array_equal(found.mask, MASK)
    assert np.array_equal(found.values, RESIDUAL.values)


@pytest.mark.parametrize(
    "task",
    [
        replace(NEXT, job="another"),
        replace(NEXT, plan_digest="ab" * 32),
        TASK,  # the round that lost it: the job began anew
        replace(TASK, round_id=1),
    ],
)
def test_it_is_not_for_another_job_or_plan_nor_for_a_job_that_began_anew(
    path: Path, task: Task
) -> None:
    assert load_residual(path, task, PLAN, path.parent) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "extend", "header", "empty", "gone"])
def test_a_damaged_one_counts_as_none(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= damage == "flip"
    path.unlink()
    if damage != "gone":
        cut = {"truncate": data[:-4], "extend": data + bytes(4), "header": data[:90], "empty": b""}
        path.write_bytes(cut.get(damage, data))
    assert load_residual(path, NEXT, PLAN, path.parent) is None


def test_without_its_mask_it_is_of_no_use(path: Path) -> None:
    (path.parent / f"{DIGEST}.bits").unlink()
    assert load_residual(path, NEXT, PLAN, path.parent) is None


def test_an_update_that_loses_nothing_leaves_none(path: Path) -> None:
    save_residual(path, TASK, DIGEST, None)
    assert not path.exists()
    save_residual(path, TASK, DIGEST, None)
