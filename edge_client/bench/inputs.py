"""`python -m edge_client.bench.inputs FOLDER...`: the arrays of cases, for all their workers.

A process of its own, so that what drawing a mask takes is not in the memory of any worker.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_client.bench.case import Case, read_case
from edge_client.runtime.targets import random_targets
from fedsparse.plan import Loss, Plan
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import random_mask
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The arrays of a case.

    Attributes:
        mask: `(num_prunable,)`.
        weights: kept values `(nnz,)`, dense tensors `(num_dense,)`.
        samples: `(batches, batch, *input_shape)`.
        targets: `(batches, batch)` classes, or `(batches, batch, outputs)` numbers, as the plan's
            loss wants them.
    """

    mask: BoolArray
    weights: Weights
    samples: Float32Array
    targets: IntArray | Float32Array


def write_inputs(folder: Path) -> None:
    """Draw the arrays of the case that `folder` describes, and write them beside it."""
    plan, case = read_case(folder)
    rng = np.random.default_rng(case.seed)
    mask = random_mask(plan, case.kept, rng)
    weights = initial_weights(plan, case.kept, rng)
    shape = (case.batches, case.batch_size)
    samples = rng.standard_normal((*shape, *plan.input_shape), dtype=np.float32)
    np.packbits(mask).tofile(folder / "mask.bin")
    weights.prunable[mask].tofile(folder / "prunable.bin")
    weights.dense.tofile(folder / "dense.bin")
    samples.tofile(folder / "samples.bin")
    targets = random_targets(plan, case.batches * case.batch_size, rng)
    classes = plan.loss is Loss.CROSS_ENTROPY
    targets.astype(np.int64 if classes else np.float32).tofile(folder / "targets.bin")


def read_inputs(folder: Path, plan: Plan, case: Case) -> Inputs:
    """The arrays that `write_inputs` wrote."""
    shape = (case.batches, case.batch_size)
    packed = np.fromfile(folder / "mask.bin", np.uint8)
    return Inputs(
        mask=np.unpackbits(packed, count=plan.num_prunable).view(np.bool_),
        weights=Weights(
            prunable=np.fromfile(folder / "prunable.bin", np.float32),
            dense=np.fromfile(folder / "dense.bin", np.float32),
        ),
        samples=np.fromfile(folder / "samples.bin", np.float32).reshape(*shape, *plan.input_shape),
        targets=_read_targets(folder, plan, shape),
    )


def _read_targets(folder: Path, plan: Plan, shape: tuple[int, int]) -> IntArray | Float32Array:
    if plan.loss is Loss.CROSS_ENTROPY:  # classes as torch wants them: every engine gets the same
        return np.fromfile(folder / "targets.bin", np.int64).reshape(shape)
    return np.fromfile(folder / "targets.bin", np.float32).reshape(*shape, plan.classes)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write_inputs(Path(argument))
