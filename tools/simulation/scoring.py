"""Scores of the global model on the test set, computed by the runtime that devices run."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Final

from aggregator.accumulate import Score
from aggregator.scoring import Scores, Unscored, known, pooled
from edge_client.data.header import count_samples
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.sparsity.packing import pack
from tools.simulation.pool import Pool
from tools.simulation.worker import ScoreOrder

PART: Final = 1_000  # samples of an order, whatever the number of workers: sums round alike


class SimulatedScoring:
    """Every level is scored in each `every`-th round and in the last (`aggregator.scoring`).

    Args:
        plan: the model.
        test: `.npz` of the test set.
        pool: computes.
        every, last: rounds.
    """

    on_devices = False

    def __init__(self, plan: Plan, test: Path, pool: Pool, *, every: int, last: int) -> None:
        self._has_accuracy = plan.loss.has_accuracy
        self._test = test
        self._size = count_samples(test)[0]
        self._pool = pool
        self._every = every
        self._last = last

    def begin(self, unscored: Unscored) -> Future[Scores]:
        """See `Scoring`: done at once; empty in the rounds between."""
        round_id = unscored.round_id
        if round_id % self._every and round_id != self._last:
            return known(Scores())
        return known(self._scores(unscored.state))

    def close(self) -> None:
        """See `Scoring`."""

    def _scores(self, state: ServerState) -> Scores:
        orders = {level: self._orders(state, level) for level in state.masks}
        answers = iter(self._pool.score([one for some in orders.values() for one in some]))
        found = {}
        for level, some in orders.items():
            found[level] = Score()
            for _ in some:
                found[level].add(next(answers))
        return pooled(found, has_accuracy=self._has_accuracy)

    def _orders(self, state: ServerState, level: float) -> list[ScoreOrder]:
        mask, weights = pack(state.masks[level]), state.level_weights(level)
        return [
            ScoreOrder(
                mask=mask,
                weights=weights,
                samples=self._test,
                first=first,
                last=min(self._size, first + PART),
            )
            for first in range(0, self._size, PART)
        ]
