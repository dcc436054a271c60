"""What a plan is trained for."""

from __future__ import annotations

from enum import Enum


class Loss(str, Enum):
    """The loss over the outputs of a plan's last node, a mean over the batch.

    Attributes:
        CROSS_ENTROPY: softmax cross-entropy; labels are int classes `(batch,)`, two or more logits.
        MSE: mean squared error over batch and outputs; targets are float32 `(batch, outputs)`.
        BCE: binary cross-entropy over batch and outputs, the outputs being logits; targets are
            float32 `(batch, outputs)` in [0, 1].
    """

    CROSS_ENTROPY = "cross_entropy"
    MSE = "mse"
    BCE = "bce"

    @property
    def has_accuracy(self) -> bool:
        """Whether an answer is right or wrong; a mean squared error is a score by itself."""
        return self is not Loss.MSE

    @property
    def least_outputs(self) -> int:
        """Outputs that the last node must have."""
        return 2 if self is Loss.CROSS_ENTROPY else 1
