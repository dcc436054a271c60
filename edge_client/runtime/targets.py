"""What a model is trained to give: the second half of a batch, as its loss wants it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedsparse.errors import EngineError
from fedsparse.plan import Loss, Plan
from fedsparse.types import Float32Array, IntArray

Targets: TypeAlias = npt.NDArray[np.int32] | Float32Array


def as_targets(plan: Plan, labels: IntArray | Float32Array, batch: int) -> Targets:
    """Check the labels of a batch; contiguous.

    Args:
        plan: whose loss they are for.
        labels: classes `(batch,)` for cross-entropy; numbers `(batch, outputs)` for mean squared
            error, and from 0 to 1 for binary cross-entropy.
        batch: samples of the batch.

    Raises:
        EngineError: shape, type or range do not fit.
    """
    if plan.loss is Loss.CROSS_ENTROPY:
        return _classes(labels, batch, plan.classes)
    shape = (batch, plan.classes)
    if labels.shape != shape or labels.dtype.kind not in "iuf":
        raise EngineError(
            f"{batch} samples of a plan with the loss '{plan.loss.value}' need numbers of shape "
            f"{shape} as targets, got {labels.shape} of {labels.dtype}"
        )
    if plan.loss is Loss.BCE and not (labels.min() >= 0 and labels.max() <= 1):
        raise EngineError(
            f"targets of the loss 'bce' must be 0 to 1, got {labels.min()} to {labels.max()}"
        )
    return np.ascontiguousarray(labels, dtype=np.float32)


def random_targets(plan: Plan, batch: int, rng: np.random.Generator) -> Targets:
    """Targets for a batch of which only the time matters."""
    if plan.loss is Loss.CROSS_ENTROPY:
        return rng.integers(0, plan.classes, batch, dtype=np.int32)
    return rng.random((batch, plan.classes), dtype=np.float32)


def _classes(labels: IntArray | Float32Array, batch: int, classes: int) -> Targets:
    if labels.shape != (batch,) or labels.dtype.kind not in "iu":
        raise EngineError(
            f"{batch} samples need as many integer labels, got {labels.shape} of {labels.dtype}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise EngineError(
            f"labels must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}"
        )
    return np.ascontiguousarray(labels, dtype=np.int32)
