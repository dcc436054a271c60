"""The self-test of an import: the plan must yield the logits of the model that it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from aggregator.models.assembly import Imported
from aggregator.models.session import open_session, run
from aggregator.models.to_onnx import to_onnx
from aggregator.models.weights import from_tensors
from fedsparse.errors import PlanError
from fedsparse.plan import INPUT
from fedsparse.types import Float32Array

TOLERANCE: Final = 1e-4


def check_same_logits(
    imported: Imported, model: Callable[[Float32Array], Float32Array], *, batch: int = 4
) -> None:
    """Compare both on `batch` random samples.

    Args:
        imported: what the importer made.
        model: the original, `(batch, *input_shape)` to `(batch, classes)`.
        batch: samples to try; what the original accepts.

    Raises:
        PlanError: they differ by more than float32 explains.
    """
    plan = imported.plan
    samples = np.random.default_rng(0).standard_normal((batch, *plan.input_shape), np.float32)
    exported = to_onnx(plan, from_tensors(plan, imported.values)).SerializeToString()
    got = run(open_session(exported), {INPUT: samples}).astype(np.float64)
    wanted = np.asarray(model(samples), np.float64)
    if imported.ending == "sigmoid":
        got = 0.5 * (1 + np.tanh(got / 2))
    elif imported.ending:
        got = got - np.logaddexp.reduce(got, axis=1, keepdims=True)
        got = np.exp(got) if imported.ending == "softmax" else got
    scale = max(1.0, float(np.abs(wanted).max()))
    if wanted.shape != got.shape or not np.abs(wanted - got).max() <= TOLERANCE * scale:
        raise PlanError(
            "the imported plan does not yield the model's own output: an operator means something "
            "else here than in the model. Look for in-place operations on a value that is read "
            "again, and for behaviour that depends on the samples"
        )
