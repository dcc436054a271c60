"""Running statistics of batch-norm, kept apart for each level.

A level's sub-model has other activations than its parent, and with them other means and variances.
A mixture of all levels' statistics fits none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedsparse.plan import Plan
from fedsparse.types import Float32Array, Float64Array, IntArray


def running_positions(plan: Plan) -> IntArray:
    """Where running statistics lie in the flat vector of dense values, `(num_running,)`."""
    running = [np.full(tensor.size, not tensor.role.is_trained) for tensor in plan.dense]
    return np.flatnonzero(np.concatenate([np.empty(0, np.bool_), *running]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelStatistics:
    """What is known of each level; nothing in it is changed in place.

    Attributes:
        positions: `(num_running,)`, in the flat vector of dense values.
        values: by density level, `(num_running,)`; a level that nobody has trained is missing.
    """

    positions: IntArray
    values: Mapping[float, Float32Array] = field(default_factory=dict)

    def dense_at(self, level: float, dense: Float32Array) -> Float32Array:
        """Dense values `(num_dense,)` with a level's own statistics in their places."""
        if level not in self.values or self.positions.size == 0:
            return dense
        own: Float32Array = dense.copy()
        own[self.positions] = self.values[level]
        return own

    def followed_by(self, later: Mapping[float, Float32Array]) -> LevelStatistics:
        """What a round found, and for levels that it left out what was known before."""
        return LevelStatistics(positions=self.positions, values={**self.values, **later})


class StatisticsMean:
    """Folds updates one by one: each level's mean over the devices that trained it, by examples.

    Sums are float64; for the same result to the bit, updates are added in the same order.

    Args:
        plan: whose dense values come.

    Source: Slimmable networks (Yu et al., ICLR 2019), where each width has its own statistics.
    """

    def __init__(self, plan: Plan) -> None:
        self._positions = running_positions(plan)
        self._sums: dict[float, Float64Array] = {}
        self._examples: dict[float, float] = {}

    def add(self, level: float, dense: Float32Array, num_examples: float) -> None:
        """Add the dense values `(num_dense,)` of one update."""
        if self._positions.size == 0:
            return
        values = np.float64(num_examples) * dense[self._positions]
        self._sums[level] = self._sums.get(level, 0.0) + values
        self._examples[level] = self._examples.get(level, 0) + num_examples

    def result(self) -> dict[float, Float32Array]:
        """By level, `(num_running,)`; nothing where the plan has no running statistics."""
        return {
            level: (total / self._examples[level]).astype(np.float32)
            for level, total in self._sums.items()
        }
