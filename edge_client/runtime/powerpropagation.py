"""Powerpropagation: weights as powers, so that large ones learn fast and small ones fade.

Source: Schwarz et al., "Powerpropagation: A sparsity inducing weight reparameterisation", NeurIPS
2021; used by SparsyFed (Guastella et al., ICLR 2025).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edge_client.runtime.engine import Engine
from edge_client.runtime.gradient import probe, slope
from edge_client.runtime.parts import parts
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.sparsity.densities import layer_slices
from fedsparse.types import BoolArray, Float32Array, Float64Array, IntArray, Weights

# What has grown starts at this share of its layer's mean magnitude: a power of 0 stays 0.
GROWN_SHARE: Final = 0.1
SEEDS: Final = 1 << 32


class Powerpropagation:
    """Trains the kept prunable weights as `w = theta * |theta|^(beta - 1)`; the others plainly.

    Follows the protocol `Engine`, on top of any engine that was opened without momentum and weight
    decay: those are applied here, to `theta`. Weights go in and come out as `w`; `theta` follows
    from them. A step takes two copies of the weights.

    Args:
        engine: holds `w` under `mask`; used by nobody else.
        plan: the model.
        mask: `(num_prunable,)`; copied.
        beta: the power, at least 1, where nothing is changed; SparsyFed's is 1.25.
        momentum, weight_decay: of SGD, as in `torch.optim.SGD`.
        seed: of dropout, and of the signs of what grows.

    Raises:
        EngineError: beta is less than 1.
    """

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        mask: BoolArray,
        *,
        beta: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not beta >= 1.0:
            raise EngineError(f"powerpropagation takes a power of at least 1, got {beta}")
        self._engine = engine
        self._plan = plan
        self._beta = beta
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._packed_mask = np.packbits(mask)
        roles = [np.full(tensor.size, tensor.role.is_trained) for tensor in plan.dense]
        self._trained: BoolArray = np.concatenate([np.empty(0, np.bool_), *roles])
        self._velocity = self._dense_velocity = np.empty(0, np.float32)
        self._begin(seed)

    def train_step(
        self, samples: Float32Array, labels: IntArray | Float32Array, *, learning_rate: float
    ) -> float:
        """See `Engine`."""
        probed = probe(self._engine, samples, labels)
        weights, after = probed.before, probed.after
        self._move(weights.prunable, after.prunable, self._velocity, self._beta, learning_rate)
        self._move(weights.dense, after.dense, self._dense_velocity, 1.0, learning_rate)
        np.copyto(weights.dense, after.dense, where=~self._trained)
        self._steps += 1
        self._engine.restart(weights, seed=(self._seed + self._steps) % SEEDS)
        return probed.loss

    def logits(self, samples: Float32Array) -> Float32Array:
        """See `Engine`."""
        return self._engine.logits(samples)

    def weights(self) -> Weights:
        """See `Engine`."""
        return self._engine.weights()

    def replace_mask(self, mask: BoolArray, kept: Float32Array) -> None:
        """See `Engine`; what has grown (a value of 0) starts small, with a sign drawn at random."""
        old = np.unpackbits(self._packed_mask, count=mask.size).view(np.bool_)
        self._engine.replace_mask(mask, self._seeded(mask, kept))
        if self._momentum > 0:
            velocity = np.zeros(kept.size, np.float32)
            velocity[old[mask]] = self._velocity[mask[old]]
            self._velocity = velocity
        self._packed_mask = np.packbits(mask)

    def restart(self, weights: Weights, *, seed: int = 0) -> None:
        """See `Engine`."""
        self._engine.restart(weights, seed=seed)
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        kept = int(np.unpackbits(self._packed_mask, count=self._plan.num_prunable).sum())
        sizes = (kept, self._plan.num_dense) if self._momentum > 0 else (0, 0)
        self._velocity, self._dense_velocity = (np.zeros(size, np.float32) for size in sizes)
        self._seed, self._steps = seed, 0

    def _move(
        self,
        values: Float32Array,
        probed: Float32Array,
        velocity: Float32Array,
        beta: float,
        learning_rate: float,
    ) -> None:
        """A step of SGD in theta; values and velocity are changed in place."""
        for part in parts(values.size):
            theta = _power(values[part].astype(np.float64), 1 / beta)
            inner = beta * np.abs(theta) ** (beta - 1)
            change = slope(values[part], probed[part]) * inner + self._weight_decay * theta
            if self._momentum > 0:
                change += self._momentum * velocity[part].astype(np.float64)
                velocity[part] = change
            values[part] = _power(theta - learning_rate * change, beta)

    def _seeded(self, mask: BoolArray, kept: Float32Array) -> Float32Array:
        """The values `(nnz,)` with something to grow from where they are 0."""
        draws = np.random.default_rng([self._seed, self._steps])
        seeded: Float32Array = kept.copy()
        start = 0
        for layer in layer_slices(self._plan):
            count = int(np.count_nonzero(mask[layer]))
            values = seeded[start : start + count]
            zero = values == 0
            if zero.any() and not zero.all():
                size = GROWN_SHARE * float(np.abs(values[~zero]).mean(dtype=np.float64))
                values[zero] = size * draws.choice((-1.0, 1.0), int(np.count_nonzero(zero)))
            start += count
        return seeded


def _power(values: Float64Array, exponent: float) -> Float64Array:
    """`sign(v) * |v|^exponent`."""
    powered: Float64Array = np.sign(values) * np.abs(values) ** exponent
    return powered
