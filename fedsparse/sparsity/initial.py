"""First weights of a model that is sparse from the start.

A layer that keeps the share `d` of its inputs sums `d * fan_in` terms. Initialised as if it were
dense, its output shrinks by `sqrt(d)`, layer after layer, and a model without normalisation does
not learn at all. He's scale for the kept fan-in, `sqrt(2 / (d * fan_in))`, keeps the signal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from fedsparse.plan import Plan, Role, Tensor
from fedsparse.types import Float32Array, Weights

RELU_GAIN: Final = math.sqrt(2.0)
LOGITS_GAIN: Final = 1.0
FILL: Final = {
    Role.BIAS: 0.0,
    Role.SCALE: 1.0,
    Role.SHIFT: 0.0,
    Role.RUNNING_MEAN: 0.0,
    Role.RUNNING_VAR: 1.0,
}


def initial_weights(plan: Plan, counts: Sequence[int], rng: np.random.Generator) -> Weights:
    """Draw the weights of a model whose prunable tensors keep `counts`.

    Weights are normal with deviation `gain / sqrt(fan_in * density)`, where the density of a tensor
    that is not pruned is 1; biases and shifts are 0, scales and running variances 1.

    Args:
        plan: the model.
        counts: `(tensors,)`, kept weights of each prunable tensor.
        rng: source of the weights.

    Returns:
        Weights with prunable `(num_prunable,)`, drawn at every position, kept or not.

    Source: He et al. 2015, for the kept fan-in; deviation from the FLASH reference, which scales
    for the dense fan-in.
    """
    densities = {
        tensor.name: count / tensor.size
        for tensor, count in zip(plan.prunable, counts, strict=True)
    }
    logits = [tensor.name for tensor in plan.tensors if tensor.role is Role.WEIGHT][-1]
    drawn = {
        tensor.name: _draw(
            tensor,
            densities.get(tensor.name, 1.0),
            LOGITS_GAIN if tensor.name == logits else RELU_GAIN,
            rng,
        )
        for tensor in plan.tensors
    }
    return Weights(
        prunable=_joined([drawn[tensor.name] for tensor in plan.prunable]),
        dense=_joined([drawn[tensor.name] for tensor in plan.dense]),
    )


def _draw(tensor: Tensor, density: float, gain: float, rng: np.random.Generator) -> Float32Array:
    if tensor.role is not Role.WEIGHT:
        return np.full(tensor.size, FILL[tensor.role], np.float32)
    deviation = np.float32(gain / math.sqrt(tensor.fan_in * density))
    values: Float32Array = rng.standard_normal(tensor.size, np.float32) * deviation
    return values


def _joined(parts: Sequence[Float32Array]) -> Float32Array:
    return np.concatenate([np.empty(0, np.float32), *parts])
