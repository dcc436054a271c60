"""The protocol that every training engine of a device follows."""

from __future__ import annotations

from typing import Protocol

from fedsparse.types import BoolArray, Float32Array, IntArray, Weights


class Engine(Protocol):
    """Trains one plan under one mask; holds weights, gradients and momentum at kept positions only.

    An engine is built from a plan, a mask `(num_prunable,)`, the kept `Weights` (prunable
    `(nnz,)` in plan order, dense `(num_dense,)`), and the largest batch that it will be given.
    """

    def train_step(
        self, samples: Float32Array, labels: IntArray | Float32Array, *, learning_rate: float
    ) -> float:
        """One step of SGD (momentum and weight decay were given to the constructor), as torch's.

        Args:
            samples: `(batch, *input_shape)`; any batch from 1 to the largest.
            labels: `(batch,)`, classes from 0; where the loss is not cross-entropy, float32
                targets `(batch, outputs)`.
            learning_rate: the step size.

        Returns:
            The mean loss of the batch, before the step.

        Raises:
            EngineError: the loss is not finite; the weights are then of no use.
        """
        ...

    def logits(self, samples: Float32Array) -> Float32Array:
        """`(batch, classes)`, with running statistics in place of the batch's; trains nothing."""
        ...

    def weights(self) -> Weights:
        """A copy of the current kept weights and dense tensors (running statistics too)."""
        ...

    def replace_mask(self, mask: BoolArray, kept: Float32Array) -> None:
        """Train on under another mask; momentum is carried over where both masks keep.

        Args:
            mask: `(num_prunable,)`.
            kept: `(nnz,)`, the values at its positions.
        """
        ...

    def restart(self, weights: Weights, *, seed: int = 0) -> None:
        """Begin anew from other weights under the same mask: no momentum, and the first step.

        Args:
            weights: prunable `(nnz,)`, dense `(num_dense,)`; copied.
            seed: of dropout.
        """
        ...
