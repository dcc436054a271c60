"""`python -m edge_client.trainer.kernel_speed DEADLINE`: how fast training is in the long run.

Training steps of whole models, by the engine that tasks use, on one thread. A rate is work over
wall time of whole windows, not of the fastest step: a quota of processor time, other programs and a
falling clock belong to it. Windows go round all cases, so that each is met early and late. Only one
engine is there at a time: a small board has room for no more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from edge_client.probe.measured import DENSITY
from edge_client.probe.speaking import say, speak
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.step_times import plain_weights
from edge_client.runtime.targets import random_targets
from fedsparse.plan.zoo import PLANS
from fedsparse.sparsity.masks import random_mask

# A convolution over images and a large linear layer, one over signals, a residual network.
MODELS: Final = ("mnist", "watch", "cifar10")
BATCH: Final = 32
MICRO_BATCH: Final = 8  # all at once would take 50 MB of some
MOMENTUM: Final = 0.9
DENSITIES: Final = (DENSITY, 0.05, 0.2)  # where time runs out, the first ones have been measured
WINDOW_S: Final = 0.1  # a period of a processor quota: of each, what the quota allows
ROUNDS: Final = 3
SEED: Final = 0


class Case:
    """One model at one density, trained over and over.

    Args:
        model: what is trained.
        density: the share of its weights that is kept.
        clock: seconds.
    """

    def __init__(self, model: str, density: float, clock: Callable[[], float]) -> None:
        self._model, self._density, self._clock = model, density, clock
        self._plan = PLANS[model]()
        self._kept = [max(1, round(density * tensor.size)) for tensor in self._plan.prunable]
        self._setup = EngineSetup(micro_batch=MICRO_BATCH)
        self._work = sparse_cost(self._plan, self._kept, BATCH, setup=self._setup).multiply_adds
        self._steps, self._seconds = 0, 0.0

    def run(self, window_s: float) -> None:
        """Train for so long, after a step that does not count: others have had the caches.

        Raises:
            EngineError: the kernels do not load.
        """
        rng = np.random.default_rng(SEED)
        samples = rng.standard_normal((BATCH, *self._plan.input_shape), dtype=np.float32)
        targets = random_targets(self._plan, BATCH, rng)
        engine = self._engine(rng)
        engine.train_step(samples, targets, learning_rate=0.0)
        start, seconds = self._clock(), 0.0
        while seconds < window_s:
            engine.train_step(samples, targets, learning_rate=0.0)
            self._steps += 1
            seconds = self._clock() - start
        self._seconds += seconds

    @property
    def rate(self) -> float:
        """Multiply-adds per second, of all windows so far."""
        return self._steps * self._work / self._seconds

    def row(self) -> dict[str, object]:
        """The document of all windows so far."""
        return {
            "model": self._model,
            "density": self._density,
            "multiply_adds_per_s": self.rate,
            "seconds": self._seconds,
        }

    def _engine(self, rng: np.random.Generator) -> SparseEngine:
        mask = random_mask(self._plan, self._kept, rng)
        return SparseEngine(
            self._plan, mask, plain_weights(self._plan, mask), batch_size=BATCH,
            setup=self._setup, momentum=MOMENTUM,
        )  # fmt: skip


def measure(
    cases: Sequence[Case], limit_s: float, clock: Callable[[], float] = time.perf_counter
) -> Iterator[dict[str, object]]:
    """Rows as they come, each case's again with every window; the last one counts.

    Args:
        cases: what is measured.
        limit_s: no window is begun that would be expected to end later.
        clock: seconds.
    """
    start, longest_s = clock(), 0.0
    for _ in range(ROUNDS):
        for case in cases:
            begun = clock()
            if begun - start + longest_s > limit_s:
                return
            case.run(WINDOW_S)
            longest_s = max(longest_s, clock() - begun)
            yield case.row()


def _run(limit_s: float) -> None:
    start = time.perf_counter()
    pairs = [(model, density) for density in DENSITIES for model in MODELS]
    say(cases=len(pairs))
    cases = [Case(model, density, time.perf_counter) for model, density in pairs]
    for row in measure(cases, limit_s - (time.perf_counter() - start)):
        say(row=row)


if __name__ == "__main__":
    speak(_run, sys.argv[1:])
