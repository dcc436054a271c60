"""How good the model is at each level: on the gateway's test set, or on the devices' hold-outs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from aggregator.accumulate import Score
from aggregator.evaluate import Evaluator, load_test_set
from aggregator.events import Diary
from aggregator.job import JobConfig
from fedsparse.errors import EngineError
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.plan.training_graph import TrainingGraph

log = logging.getLogger("aggregator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """A model that is yet to be scored: the one that a round left, and what devices reported."""

    round_id: int
    state: ServerState
    reported: Mapping[float, Score]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How good the model is, by level; empty where nobody scored.

    Attributes:
        accuracy: the share of right answers (fedsparse/score.py); empty where the plan's loss knows
            no right and wrong.
        loss: the mean loss, on samples that are not trained on.
    """

    accuracy: Mapping[float, float] = field(default_factory=dict)
    loss: Mapping[float, float] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Their entries in the diary."""
        return {
            "accuracy": {f"{level:g}": round(one, 5) for level, one in self.accuracy.items()},
            "test_loss": {f"{level:g}": round(one, 5) for level, one in self.loss.items()},
        }


class Scoring(Protocol):
    """Accuracy and loss by level."""

    @property
    def on_devices(self) -> bool:
        """Whether devices have to score the model."""
        ...

    def begin(self, unscored: Unscored) -> Future[Scores]:
        """Score a model; one is begun when the one before is done."""
        ...

    def close(self) -> None:
        """Leave off: nobody waits for what was begun."""
        ...


class DeviceScoring:
    """Devices score what they receive, on their hold-outs.

    A round's figures are those of the model that the round before it left, at the levels that
    devices hold.
    """

    on_devices = True

    def __init__(self, plan: Plan) -> None:
        self._has_accuracy = plan.loss.has_accuracy

    def begin(self, unscored: Unscored) -> Future[Scores]:
        """See `Scoring`."""
        return known(pooled(unscored.reported, has_accuracy=self._has_accuracy))

    def close(self) -> None:
        """See `Scoring`."""


class GatewayScoring:
    """Every level is scored on the gateway's own test set, after each round.

    That happens on a thread of its own, so that updates are taken in time meanwhile: a large test
    set may take longer than a round.
    """

    on_devices = False

    def __init__(self, plan: Plan, evaluator: Evaluator) -> None:
        self._has_accuracy = plan.loss.has_accuracy
        self._evaluator = evaluator
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="scoring")

    def begin(self, unscored: Unscored) -> Future[Scores]:
        """See `Scoring`."""
        return self._executor.submit(self._scores, unscored.state)

    def close(self) -> None:
        """See `Scoring`; the batch that is under way is finished."""
        self._evaluator.leave_off()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _scores(self, state: ServerState) -> Scores:
        found = {level: self._score(state, level) for level in state.masks}
        return pooled(found, has_accuracy=self._has_accuracy)

    def _score(self, state: ServerState, level: float) -> Score:
        """Of nothing where the model computes no numbers: no update may end the job."""
        score = Score()
        try:
            score.add(self._evaluator.evaluate(state.weights_at(level), state.masks[level]))
        except EngineError as error:
            log.error("not_scored=%r", str(error))
        return score


class ScoreKeeper:
    """Scores the model that a round left while the next one goes on, and notes them in the diary.

    Args:
        scoring: says how good a model is.
        events: the job's diary.

    Attributes:
        latest: of the last round that was scored.
    """

    def __init__(self, scoring: Scoring, events: Diary) -> None:
        self._scoring = scoring
        self._events = events
        self._begun: tuple[int, Future[Scores]] | None = None
        self.latest = Scores()

    @property
    def on_devices(self) -> bool:
        """Whether devices have to score the model."""
        return self._scoring.on_devices

    def begin(self, unscored: Unscored) -> None:
        """Begin with a model; the one before must be told of."""
        self._begun = unscored.round_id, self._scoring.begin(unscored)

    def tell(self, *, wait: bool) -> None:
        """Note how good the model is that was begun with, as soon as that is known.

        Args:
            wait: until it is known.
        """
        if self._begun is None:
            return
        round_id, future = self._begun
        if not (wait or future.done()):
            return
        self._begun, scores = None, Scores()
        try:
            scores = future.result()
        except Exception:  # whatever it is, the model itself is safe, and the job goes on
            log.exception("round=%d not_scored=yes", round_id)
        self.latest = scores if scores.loss or scores.accuracy else self.latest
        self._events.write("round_scored", round=round_id, **scores.fields())

    def close(self) -> None:
        """Leave off: nobody waits for what was begun."""
        self._scoring.close()


def known(scores: Scores) -> Future[Scores]:
    """Scores for which nothing is to be computed, or was already."""
    future: Future[Scores] = Future()
    future.set_result(scores)
    return future


def open_scoring(job: JobConfig, plan: Plan, graph: TrainingGraph | None = None) -> Scoring:
    """As the job wants it: on its test set, or where it has none on the devices."""
    if job.test_data is None:
        return DeviceScoring(plan)
    return GatewayScoring(plan, Evaluator(plan, *load_test_set(job.test_data, plan), graph))


def pooled(found: Mapping[float, Score], *, has_accuracy: bool) -> Scores:
    """Means by level, largest first; a level that nobody scored is left out."""
    counted = {level: one for level, one in sorted(found.items(), reverse=True) if one.count}
    accuracy = {level: one.correct / one.count for level, one in counted.items()}
    loss = {level: one.loss_sum / one.count for level, one in counted.items()}
    return Scores(
        accuracy=accuracy if has_accuracy else {},
        loss={level: value for level, value in loss.items() if math.isfinite(value)},
    )
