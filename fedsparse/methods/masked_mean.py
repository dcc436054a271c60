"""The weighted mean of updates that hold different coordinates."""

from __future__ import annotations

import numpy as np

from fedsparse.types import Float32Array, Float64Array, IntArray, Weights


class MaskedMean:
    """Folds updates one by one: at each coordinate, the mean over those who hold it.

    `mean[j] = sum_i n_i w_i[j] / sum_i n_i`, over the clients `i` that kept `j`, weighted by their
    examples; dense tensors are held by all. Sums are float64; for the same result to the bit,
    updates are added in the same order.

    Args:
        num_prunable, num_dense: lengths of the two vectors.
        reference_compat: as the reference code does it: every client counts once, and a coordinate
            that nobody holds becomes 0.

    Source: FLASH reference, masked_average_weights; deviations: weighted by examples (equal numbers
    give the reference's mean), and a coordinate that nobody holds keeps its previous value.
    """

    def __init__(
        self, num_prunable: int, num_dense: int, *, reference_compat: bool = False
    ) -> None:
        self._reference_compat = reference_compat
        self._sum = np.zeros(num_prunable, np.float64)
        self._examples = np.zeros(num_prunable, np.float64)
        self._dense_sum = np.zeros(num_dense, np.float64)
        self._dense_examples = 0.0

    def add(self, kept_positions: IntArray, weights: Weights, num_examples: float) -> None:
        """Add one update.

        Args:
            kept_positions: `(nnz,)`, the coordinates that it holds, each once.
            weights: prunable `(nnz,)`, dense `(num_dense,)`.
            num_examples: its weight, positive; less than it has where it is stale.

        Raises:
            ValueError: the shapes do not fit, or there are no examples.
        """
        if weights.prunable.shape != kept_positions.shape:
            raise ValueError(f"{weights.prunable.shape} values at {kept_positions.shape} positions")
        if weights.dense.shape != self._dense_sum.shape:
            raise ValueError(f"{weights.dense.shape} dense values for {self._dense_sum.shape}")
        if num_examples <= 0:
            raise ValueError(f"num_examples must be positive, got {num_examples}")
        weight = 1 if self._reference_compat else num_examples
        self._sum[kept_positions] += np.float64(weight) * weights.prunable
        self._examples[kept_positions] += weight
        self._dense_sum += np.float64(weight) * weights.dense
        self._dense_examples += weight

    def result(self, previous: Weights) -> Weights:
        """The mean of all; where nothing was added, the value of `previous` (dense vectors)."""
        dense_examples = np.full(self._dense_sum.shape, self._dense_examples, np.float64)
        unheld = np.zeros_like(previous.prunable) if self._reference_compat else previous.prunable
        return Weights(
            prunable=_mean(self._sum, self._examples, unheld),
            dense=_mean(self._dense_sum, dense_examples, previous.dense),
        )


def _mean(total: Float64Array, examples: Float64Array, previous: Float32Array) -> Float32Array:
    held = examples > 0
    mean: Float32Array = previous.copy()
    mean[held] = total[held] / examples[held]
    return mean
