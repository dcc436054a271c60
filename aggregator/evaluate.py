"""How good a model is on the gateway's own test set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from aggregator.models.archive import read_arrays
from aggregator.models.session import open_session, run
from aggregator.models.to_onnx import to_parametric_onnx
from aggregator.models.weights import tensors_by_name
from fedsparse.errors import DataError, EngineError
from fedsparse.plan import INPUT, Plan
from fedsparse.types import BoolArray, Float32Array, Float64Array, IntArray, Weights
from fedsparse.wire.messages import Evaluation

BATCH: Final = 256


class Evaluator:
    """Scores weights of one plan on one test set; the graph is built once.

    Args:
        plan: the model.
        samples: `(samples, *input_shape)`, as `load_test_set` returns them; not copied.
        labels: `(samples,)`, classes from 0.

    Raises:
        DataError: samples or labels do not fit the plan.
    """

    def __init__(self, plan: Plan, samples: Float32Array, labels: IntArray) -> None:
        _check(plan, samples, labels, where="test set")
        self._plan = plan
        self._samples = np.ascontiguousarray(samples, np.float32)
        self._labels = labels
        self._session = open_session(
            to_parametric_onnx(plan).SerializeToString(), threads=os.cpu_count() or 1
        )

    def evaluate(self, weights: Weights, mask: BoolArray | None = None) -> Evaluation:
        """Correct predictions and summed cross-entropy over the test set.

        Args:
            weights: prunable `(num_prunable,)`, dense `(num_dense,)`; not changed.
            mask: `(num_prunable,)`, True = kept; None keeps all.

        Raises:
            EngineError: the logits are not finite.
        """
        tensors = tensors_by_name(self._plan, weights, mask)
        correct, loss_sum = 0, 0.0
        for start in range(0, len(self._samples), BATCH):
            samples = self._samples[start : start + BATCH]
            labels = self._labels[start : start + BATCH]
            logits = run(self._session, {INPUT: samples, **tensors}).astype(np.float64)
            if not np.isfinite(logits).all():
                raise EngineError("the model's logits are not finite: training has diverged")
            correct += int((logits.argmax(axis=1) == labels).sum())
            loss_sum += float(_cross_entropy(logits, labels).sum())
        return Evaluation(correct=correct, count=len(self._samples), loss_sum=loss_sum)


def load_test_set(path: Path, plan: Plan) -> tuple[Float32Array, IntArray]:
    """Read an `.npz` with `x` `(samples, *input_shape)` and integer `y` `(samples,)`.

    Raises:
        DataError: the file cannot be read, or does not fit the plan.
    """
    arrays, names = read_arrays(path, ("x", "y"), DataError)
    for name in ("x", "y"):
        if name not in arrays:
            raise DataError(
                f"{path}: the array '{name}' is missing; it has {', '.join(names) or 'none'}; "
                f"{_expected(plan)}"
            )
    x, y = arrays["x"], arrays["y"]
    _check(plan, x, y, where=str(path))
    return x.astype(np.float32), y.astype(np.int64)


def _check(plan: Plan, x: Float32Array, y: IntArray, *, where: str) -> None:
    expected = _expected(plan)
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise DataError(f"{where}: x holds {x.dtype}; {expected}")
    if x.shape[1:] != plan.input_shape or x.ndim == 0:
        raise DataError(f"{where}: x has shape {x.shape}; {expected}")
    if len(x) == 0:
        raise DataError(f"{where}: there are no samples; {expected}")
    if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
        raise DataError(
            f"{where}: y is {y.dtype} of shape {y.shape}; expected one integer label for each of "
            f"the {len(x)} samples"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= plan.classes:
        raise DataError(
            f"{where}: labels go from {low} to {high}; '{plan.name}' has {plan.classes} classes, "
            f"0 to {plan.classes - 1}"
        )
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{where}: {int((~finite).sum())} of {len(x)} samples have values that are not finite, "
            f"the first is sample {int(finite.argmin())}"
        )


def _expected(plan: Plan) -> str:
    shape = ", ".join(map(str, plan.input_shape))
    return f"expected numbers x (samples, {shape}) and labels y (samples,)"


def _cross_entropy(logits: Float64Array, labels: IntArray) -> Float64Array:
    """`(batch,)`, from logits `(batch, classes)`."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    chosen: Float64Array = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    total: Float64Array = np.log(np.exp(shifted).sum(axis=1)) - chosen
    return total
