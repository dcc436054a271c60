"""Scoring the model that a device received, on the samples that it holds out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_client.data.samples import Samples
from edge_client.runtime.engine import Engine
from fedsparse.plan import Loss
from fedsparse.score import Batch, score
from fedsparse.wire.messages import Evaluation

BATCH: Final = 64


def evaluate(engine: Engine, loss: Loss, samples: Samples) -> Evaluation | None:
    """Score what the engine holds; None where nothing is held out.

    Raises:
        EngineError: the model's outputs are not finite.
    """
    if len(samples.held_out) == 0:
        return None
    return score(loss, _answers(engine, samples))


def _answers(engine: Engine, samples: Samples) -> Iterator[Batch]:
    for start in range(0, len(samples.held_out), BATCH):
        rows = samples.held_out[start : start + BATCH]
        yield engine.logits(samples.x[rows]), samples.y[rows]
