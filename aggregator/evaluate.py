"""How good a model is on the gateway's own test set."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aggregator.models.archive import read_arrays
from aggregator.models.graph_file import parametric_inference
from aggregator.models.session import open_session, run
from aggregator.models.to_onnx import to_parametric_onnx
from aggregator.models.weights import tensors_by_name
from fedsparse.errors import DataError
from fedsparse.plan import INPUT, Loss, Plan
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.score import Batch, score
from fedsparse.targets import read_targets
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights
from fedsparse.wire.messages import Evaluation

BATCH: Final = 256


class Evaluator:
    """Scores weights of one plan on one test set; the graph is built once.

    Args:
        plan: the model.
        samples: `(samples, *input_shape)`, as `load_test_set` returns them; not copied.
        targets: as the plan's loss wants them (fedsparse/targets.py).
        graph: the training graph of a plan that is one.

    Raises:
        DataError: samples or targets do not fit the plan.
    """

    def __init__(
        self,
        plan: Plan,
        samples: Float32Array,
        targets: IntArray | Float32Array,
        graph: TrainingGraph | None = None,
    ) -> None:
        self._plan = plan
        self._targets = _checked(plan, samples, targets, where="test set")
        self._samples = np.ascontiguousarray(samples, np.float32)
        self._left_off = threading.Event()
        model = to_parametric_onnx(plan) if graph is None else parametric_inference(graph)
        self._session = open_session(model.SerializeToString(), threads=os.cpu_count() or 1)

    def evaluate(self, weights: Weights, mask: BoolArray | None = None) -> Evaluation:
        """Right answers and summed loss over the test set (fedsparse/score.py).

        Args:
            weights: prunable `(num_prunable,)`, dense `(num_dense,)`; not changed.
            mask: `(num_prunable,)`, True = kept; None keeps all.

        Raises:
            EngineError: the outputs are not finite.
            CancelledError: it was to leave off.
        """
        return score(self._plan.loss, self._answers(tensors_by_name(self._plan, weights, mask)))

    def leave_off(self) -> None:
        """Evaluate nothing any more; from any thread."""
        self._left_off.set()

    def _answers(self, tensors: Mapping[str, Float32Array]) -> Iterator[Batch]:
        for start in range(0, len(self._samples), BATCH):
            if self._left_off.is_set():
                raise CancelledError
            samples = self._samples[start : start + BATCH]
            outputs = run(self._session, {INPUT: samples, **tensors})
            yield outputs, self._targets[start : start + BATCH]


def load_test_set(path: Path, plan: Plan) -> tuple[Float32Array, IntArray | Float32Array]:
    """Read an `.npz` with `x` `(samples, *input_shape)` and the targets `y` of the plan's loss.

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
    targets = _checked(plan, x, y, where=str(path))
    return x.astype(np.float32), targets


def _checked(
    plan: Plan, x: npt.NDArray[Any], y: npt.NDArray[Any], *, where: str
) -> IntArray | Float32Array:
    """The targets, once samples and targets are known to fit the plan."""
    expected = _expected(plan)
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise DataError(f"{where}: x holds {x.dtype}; {expected}")
    if x.shape[1:] != plan.input_shape or x.ndim == 0:
        raise DataError(f"{where}: x has shape {x.shape}; {expected}")
    if len(x) == 0:
        raise DataError(f"{where}: there are no samples; {expected}")
    try:
        targets = read_targets(y, len(x), plan)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{where}: {int((~finite).sum())} of {len(x)} samples have values that are not finite, "
            f"the first is sample {int(finite.argmin())}"
        )
    return targets


def _expected(plan: Plan) -> str:
    shape = ", ".join(map(str, plan.input_shape))
    targets = "labels y (samples,)"
    if plan.loss is not Loss.CROSS_ENTROPY:
        targets = f"targets y (samples, {plan.classes})"
    return f"expected numbers x (samples, {shape}) and {targets}"
