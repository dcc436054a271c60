"""What every engine asks of mask, weights, samples and loss."""

from __future__ import annotations

import math

import numpy as np

from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Float32Array, Weights


def check_weights(plan: Plan, mask: BoolArray, weights: Weights) -> None:
    """Raise `EngineError` where mask `(num_prunable,)` or kept weights do not fit the plan."""
    if mask.dtype != np.bool_ or mask.shape != (plan.num_prunable,):
        raise EngineError(
            f"the mask must be ({plan.num_prunable},) of bool for plan '{plan.name}', got "
            f"{mask.shape} of {mask.dtype}"
        )
    nnz = int(np.count_nonzero(mask))
    if weights.prunable.shape != (nnz,):
        raise EngineError(f"the mask keeps {nnz} weights, got {weights.prunable.shape} values")
    if weights.dense.shape != (plan.num_dense,):
        raise EngineError(
            f"plan '{plan.name}' has {plan.num_dense} dense values, got {weights.dense.shape}"
        )


def as_samples(plan: Plan, samples: Float32Array) -> Float32Array:
    """Samples `(batch, *input_shape)`, contiguous; raises `EngineError` for another shape."""
    if samples.shape[1:] != plan.input_shape:
        raise EngineError(
            f"plan '{plan.name}' takes samples of {plan.input_shape}, got {samples.shape[1:]}"
        )
    return np.ascontiguousarray(samples, dtype=np.float32)


def as_batch(plan: Plan, samples: Float32Array, largest: int) -> Float32Array:
    """As `as_samples`; raises `EngineError` also unless they are 1 to `largest`."""
    samples = as_samples(plan, samples)
    if not 1 <= len(samples) <= largest:
        raise EngineError(f"a batch of {len(samples)}: this engine takes 1 to {largest}")
    return samples


def check_loss(loss: float) -> None:
    """Raise `EngineError` where the loss is not finite."""
    if not math.isfinite(loss):
        raise EngineError(
            f"training diverged: the loss is {loss}; lower the learning rate, or look for NaN or "
            "infinity among the samples"
        )
