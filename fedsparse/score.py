"""How well a model answers: its loss, and where its answers are right or wrong, how many are right.

| loss | an answer | right |
|---|---|---|
| cross_entropy | a sample's class | the largest logit is that of the label |
| bce | each output of a sample | the logit is positive where the target is 1, and only there |
| mse | each output of a sample | never said: there is no right or wrong, `correct` is 0 |
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fedsparse.errors import EngineError
from fedsparse.plan import Loss
from fedsparse.types import Float32Array, Float64Array, IntArray
from fedsparse.wire.messages import Evaluation

Batch = tuple[Float32Array, IntArray | Float32Array]


def score(loss: Loss, batches: Iterable[Batch]) -> Evaluation:
    """Pool what a model answered over all batches; the loss is summed over all answers.

    Args:
        loss: of the plan.
        batches: outputs `(batch, outputs)` of the model, with their targets as
            `fedsparse.targets.read_targets` gives them.

    Raises:
        EngineError: outputs that are not finite.
    """
    correct, count, loss_sum = 0, 0, 0.0
    for outputs, targets in batches:
        exact = outputs.astype(np.float64)
        if not np.isfinite(exact).all():
            raise EngineError("the model's outputs are not finite: training has diverged")
        losses = _losses(loss, exact, targets)
        count += losses.size
        loss_sum += float(losses.sum())
        if loss is Loss.CROSS_ENTROPY:
            correct += int((outputs.argmax(axis=1) == targets).sum())
        elif loss is Loss.BCE:
            correct += int(((outputs > 0) == (targets > 0.5)).sum())
    return Evaluation(correct=correct, count=count, loss_sum=loss_sum)


def _losses(loss: Loss, outputs: Float64Array, targets: IntArray | Float32Array) -> Float64Array:
    """Of each answer: `(batch,)` for cross-entropy, else `(batch, outputs)`."""
    losses: Float64Array
    if loss is Loss.CROSS_ENTROPY:
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        chosen = shifted[np.arange(len(targets)), targets.astype(np.intp)]
        losses = np.log(np.exp(shifted).sum(axis=1)) - chosen
    elif loss is Loss.BCE:  # softplus(z) - z t, without overflow
        softplus = np.maximum(outputs, 0) + np.log1p(np.exp(-np.abs(outputs)))
        losses = softplus - outputs * targets
    else:
        losses = np.square(outputs - targets)
    return losses
