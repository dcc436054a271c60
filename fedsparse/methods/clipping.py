"""Changes of bounded length: nobody moves the mean further than others may."""

from __future__ import annotations

import numpy as np

from fedsparse.types import Float32Array, Float64Array


def change_norm(before: Float32Array, after: Float32Array) -> float:
    """The Euclidean length of a change of values, `(values,)` each."""
    change = after.astype(np.float64)
    change -= before
    return float(np.sqrt(np.dot(change, change)))


def shrinkage(norm: float, bound: float) -> float:
    """By what a change of this length is multiplied, so that it is no longer than `bound`.

    Source: Z. Sun et al., Can You Really Backdoor Federated Learning?, 2019 (arXiv 1911.07963),
    section 4.1, norm thresholding: `1 / max(1, norm / bound)`.
    """
    return 1.0 if norm <= bound else bound / norm


def shrunk(before: Float32Array, after: Float32Array, factor: float | Float64Array) -> Float32Array:
    """The values after a change that is multiplied by `factor`; by 1, to the bit those after it.

    Args:
        before, after: `(values,)`.
        factor: for all of them, or for each, `(values,)`.
    """
    if np.all(factor == 1.0):
        return after
    change = np.float64(factor) * (after.astype(np.float64) - before)
    return np.where(factor == 1.0, after, (before + change).astype(np.float32))
