"""What a trainer holds beside its engine: plain arithmetic, no numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_client.runtime.parts import PART
from fedsparse.plan import Loss, Plan

FLOAT_BYTES: Final = 4
# What the code of a task takes that a calibration has not run before its baseline is read: for all
# of it, and at least while the task is read; and what numpy's generators take. Measured:
# tests/edge_client/trainer/test_footprint.py.
TASK_BYTES: Final = 1_600_000
READING_BYTES: Final = 3_150_000
GENERATOR_BYTES: Final = 3_500_000
DOUBLE_BYTES: Final = 8
MOVING_BYTES: Final = (
    300_000  # the code that moves weights by hand; from 0 to 600_000 by the Python
)
INDEX_BYTES: Final = 8  # of a label, and of the number of a sample


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCounts:
    """A device's samples: those trained on and those held out."""

    trained: int
    held_out: int = 0


def samples_bytes(plan: Plan, counts: SampleCounts) -> int:
    """All samples as float32, their labels or targets, and the two lists of which is which."""
    target = INDEX_BYTES if plan.loss is Loss.CROSS_ENTROPY else FLOAT_BYTES * plan.classes
    each = FLOAT_BYTES * math.prod(plan.input_shape) + target + INDEX_BYTES
    return (counts.trained + counts.held_out) * each


def training_bytes(
    plan: Plan,
    kept: Sequence[int],
    batch_size: int,
    engine_bytes: int,
    *,
    evolves: bool,
    probes: bool = False,
) -> int:
    """The most that a task takes beside its samples: while it is read, or while it trains.

    Args:
        plan: the model.
        kept: kept weights of each prunable tensor, in plan order.
        batch_size: samples of a step.
        engine_bytes: of the engine at its highest.
        evolves: whether the mask moves.
        probes: whether gradients are taken apart from steps.
    """
    batch = batch_size * (FLOAT_BYTES * math.prod(plan.input_shape) + INDEX_BYTES)
    weights = FLOAT_BYTES * (sum(kept) + plan.num_dense)  # to be sent, before the engine goes
    training = TASK_BYTES + plan.num_prunable + batch + weights + engine_bytes
    if evolves:
        training += _evolving_bytes(plan, sum(kept))
    if probes:  # the weights before and after a step, and the mask to begin anew under
        training += FLOAT_BYTES * (sum(kept) + plan.num_dense) + plan.num_prunable
        training += _moving_bytes(max(sum(kept), plan.num_dense))
    return max(READING_BYTES, training)


def _evolving_bytes(plan: Plan, nnz: int) -> int:
    """A second mask, sorted magnitudes and new values, draws, and numpy's generators."""
    return plan.num_prunable + 2 * FLOAT_BYTES * nnz + GENERATOR_BYTES


def _moving_bytes(size: int) -> int:
    """Six vectors of float64 of a part of so many values, and three of the part before."""
    vectors = 6 * min(PART, size) + (3 * PART if size > PART else 0)
    return MOVING_BYTES + DOUBLE_BYTES * vectors
