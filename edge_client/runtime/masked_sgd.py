"""SGD with momentum at the kept positions of a dense tensor: what is dropped has no state."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_client.runtime.parts import parts
from fedsparse.types import Float32Array

Int32Array = npt.NDArray[np.int32]


class MaskedTensor:
    """One tensor: dense values for the graph, and where they are kept.

    Args:
        values: of the dense shape, zero where nothing is kept; owned.
        kept: int32 `(nnz,)`, ascending positions in the flat tensor; None keeps everything.
        momentum: as in `torch.optim.SGD`; 0 takes no memory.
    """

    def __init__(self, values: Float32Array, kept: Int32Array | None, *, momentum: float) -> None:
        self.values = values
        self.kept = kept
        self._momentum = momentum
        count = values.size if kept is None else kept.size
        self.velocity = np.zeros(count if momentum > 0 else 0, np.float32)

    @property
    def positions(self) -> Int32Array:
        """Where it is kept, `(nnz,)`; of a masked tensor alone."""
        if self.kept is None:
            raise ValueError("everything is kept: there are no positions")
        return self.kept

    def kept_values(self) -> Float32Array:
        """A copy, `(nnz,)`."""
        flat = self.values.reshape(-1)
        return flat.copy() if self.kept is None else flat[self.kept]

    def step(self, gradient: Float32Array, learning_rate: float, weight_decay: float) -> None:
        """Move the kept values.

        Args:
            gradient: `(nnz,)`, or of the dense shape where everything is kept; overwritten.
            learning_rate, weight_decay: as in `torch.optim.SGD`.
        """
        flat, gradient = self.values.reshape(-1), gradient.reshape(-1)
        for part in parts(gradient.size):
            where: Any = part if self.kept is None else self.kept[part]
            values, change = flat[where], gradient[part]
            if weight_decay:
                change += np.float32(weight_decay) * values
            if self._momentum > 0:
                velocity = self.velocity[part]
                velocity *= np.float32(self._momentum)
                velocity += change
                change = velocity
            flat[where] = values - np.float32(learning_rate) * change
