"""What a file of samples says a model should answer, as the model's loss wants it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedsparse.errors import DataError
from fedsparse.plan import Loss, Plan
from fedsparse.types import Float32Array, IntArray


def read_targets(y: npt.NDArray[Any], num_samples: int, plan: Plan) -> IntArray | Float32Array:
    """Check the targets of `num_samples` samples, and bring them into the loss's type.

    Args:
        y: for cross-entropy integers `(samples,)`, classes from 0; else numbers
            `(samples, outputs)`, or `(samples,)` for a single output; for bce 0 or 1.
        num_samples: how many there must be.
        plan: whose loss and outputs they are for.

    Returns:
        int64 `(samples,)` for cross-entropy, else float32 `(samples, outputs)`, C-contiguous.

    Raises:
        DataError: what does not fit, and where.
    """
    if plan.loss is Loss.CROSS_ENTROPY:
        return _labels(y, num_samples, plan.classes)
    return _numbers(y, num_samples, plan)


def _labels(y: npt.NDArray[Any], num_samples: int, classes: int) -> IntArray:
    if y.shape != (num_samples,):
        raise DataError(
            f"{num_samples} samples in x but y has the shape {y.shape}, not ({num_samples},)"
        )
    if y.dtype.kind not in "iu":
        raise DataError(
            f"y is {y.dtype.name}; labels must be integers (a model that answers with numbers is "
            "imported with --loss mse)"
        )
    outside = (y < 0) | (y >= classes)
    if outside.any():
        first = int(np.argmax(outside))
        raise DataError(
            f"label {y[first]} of sample {first} is out of range: the model has {classes} "
            f"classes, 0 to {classes - 1} ({int(outside.sum())} such labels)"
        )
    return y.astype(np.int64)


def _numbers(y: npt.NDArray[Any], num_samples: int, plan: Plan) -> Float32Array:
    shape = (num_samples, plan.classes)
    if y.shape == (num_samples,) and plan.classes == 1:
        y = y.reshape(shape)
    if y.shape != shape:
        raise DataError(
            f"{num_samples} samples in x but y has the shape {y.shape}, not {shape}: the loss "
            f"'{plan.loss.value}' wants a number for each output"
        )
    if y.dtype.kind not in "iufb":
        raise DataError(f"y is {y.dtype.name}; the loss '{plan.loss.value}' wants numbers")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, and is refused below
        targets = np.ascontiguousarray(y, np.float32)
    if plan.loss is Loss.BCE:
        bad, wanted = ~np.isin(y, (0, 1)), "0 or 1, as the loss 'bce' wants it"
    else:
        bad, wanted = ~np.isfinite(targets), "a finite float32"
    if bad.any():
        sample, output = (int(axis[0]) for axis in np.nonzero(bad))
        raise DataError(
            f"target {y[sample, output]} of sample {sample}, output {output} is not {wanted} "
            f"({int(bad.sum())} such targets)"
        )
    return targets
