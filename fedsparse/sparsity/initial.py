"""First weights of a model that is sparse from the start.

A layer that keeps the share `d` of its inputs sums `d * fan_in` terms. Initialised as if it were
dense, its output shrinks by `sqrt(d)`, layer after layer, and a model without normalisation does
not learn at all. With `1 / sqrt(d * fan_in * m)`, where `m` is the second moment of the layer's
inputs, every layer begins with outputs of variance 1 (behind a rectifier `m` is 1/2: He's scale,
for the kept fan-in).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from fedsparse.plan import Plan, Role, Tensor
from fedsparse.sparsity.moments import input_moments
from fedsparse.types import Float32Array, Weights

FILL: Final = {
    Role.BIAS: 0.0,
    Role.SCALE: 1.0,
    Role.SHIFT: 0.0,
    Role.RUNNING_MEAN: 0.0,
    Role.RUNNING_VAR: 1.0,
}


def initial_weights(plan: Plan, counts: Sequence[int], rng: np.random.Generator) -> Weights:
    """Draw the weights of a model whose prunable tensors keep `counts`.

    Weights are normal with variance `1 / (fan_in * density * moment)`, where the density of a
    tensor that is not pruned is 1 (`moments.input_moments` has the moment); biases and shifts are
    0, scales and running variances 1.

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
    moments = input_moments(plan)
    drawn = {
        tensor.name: _draw(
            tensor, densities.get(tensor.name, 1.0) * moments.get(tensor.name, 1.0), rng
        )
        for tensor in plan.tensors
    }
    return Weights(
        prunable=_joined([drawn[tensor.name] for tensor in plan.prunable]),
        dense=_joined([drawn[tensor.name] for tensor in plan.dense]),
    )


def _draw(tensor: Tensor, share: float, rng: np.random.Generator) -> Float32Array:
    if tensor.role is not Role.WEIGHT:
        return np.full(tensor.size, FILL[tensor.role], np.float32)
    deviation = np.float32(1 / math.sqrt(tensor.fan_in * share))
    values: Float32Array = rng.standard_normal(tensor.size, np.float32) * deviation
    return values


def _joined(parts: Sequence[Float32Array]) -> Float32Array:
    return np.concatenate([np.empty(0, np.float32), *parts])
