"""How good the model is at each level: on the gateway's test set, or on the devices' hold-outs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from aggregator.accumulate import Score
from aggregator.evaluate import Evaluator, load_test_set
from aggregator.job import JobConfig
from fedsparse.errors import EngineError
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.types import BoolArray

log = logging.getLogger("aggregator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """A model that is yet to be scored: the one that a round left, and what devices reported."""

    round_id: int
    state: ServerState
    reported: Mapping[float, Score]


class Scoring:
    """Accuracy by level.

    Where the gateway has a test set, every level is scored there after each round. Where it has
    none, devices score what they receive: a round's figures are then those of the model that the
    round before it left, at the levels that devices hold.
    """

    def __init__(self, job: JobConfig, plan: Plan) -> None:
        self._evaluator: Evaluator | None = None
        if job.test_data is not None:
            self._evaluator = Evaluator(plan, *load_test_set(job.test_data, plan))

    @property
    def on_devices(self) -> bool:
        """Whether devices have to score the model."""
        return self._evaluator is None

    def accuracy(self, state: ServerState, reported: Mapping[float, Score]) -> dict[float, float]:
        """Accuracy in [0, 1] by level; empty where nobody scored."""
        scores = reported
        if self._evaluator is not None:
            scores = {level: self._score(state, mask) for level, mask in state.masks.items()}
        return {
            level: score.correct / score.count
            for level, score in sorted(scores.items(), reverse=True)
            if score.count
        }

    def _score(self, state: ServerState, mask: BoolArray) -> Score:
        """Of nothing where the model computes no numbers: no update may end the job."""
        score = Score()
        if self._evaluator is not None:
            try:
                score.add(self._evaluator.evaluate(state.weights, mask))
            except EngineError as error:
                log.error("not_scored=%r", str(error))
        return score
