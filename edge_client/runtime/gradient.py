"""The gradient of one batch, from an engine that only knows how to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_client.runtime.engine import Engine
from fedsparse.types import Float32Array, Float64Array, IntArray, Weights

# The larger the step, the less of it is lost to the rounding of the weights that it moves. A power
# of two, so that taking it out again is exact.
PROBE_RATE: Final = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A plain step far off: `slope` of what lies between is the gradient.

    Attributes:
        loss: the mean loss of the batch, at `before`.
        before, after: kept weights and dense tensors, copies; the running statistics of `after`
            are those that a step leaves.
    """

    loss: float
    before: Weights
    after: Weights


def probe(engine: Engine, samples: Float32Array, labels: IntArray | Float32Array) -> Probe:
    """Take the step.

    Args:
        engine: opened without momentum and weight decay; what it holds then is of no use, but
            for `Engine.restart`.
        samples, labels: as `Engine.train_step`.

    Raises:
        EngineError: the loss is not finite.
    """
    before = engine.weights()
    loss = engine.train_step(samples, labels, learning_rate=PROBE_RATE)
    return Probe(loss=loss, before=before, after=engine.weights())


def slope(before: Float32Array, after: Float32Array) -> Float64Array:
    """The gradient of the mean loss at `before`, for these values or any part of them."""
    gradient: Float64Array = (before.astype(np.float64) - after) / PROBE_RATE
    return gradient
