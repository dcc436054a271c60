"""Names for the array types that the project passes around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float32Array: TypeAlias = npt.NDArray[np.float32]
Float64Array: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The values of a model, in plan order.

    Attributes:
        prunable: `(num_prunable,)` dense on the server; `(nnz,)` kept values elsewhere.
        dense: `(num_dense,)`; biases, norms and their running statistics.
    """

    prunable: Float32Array
    dense: Float32Array
