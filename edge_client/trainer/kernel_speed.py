"""`python -m edge_client.trainer.kernel_speed DEADLINE`: how fast training is in the long run.

Training steps of models of one layer, by the engine that tasks use, on one thread. A rate is work
over wall time of whole windows, not of the fastest step: a quota of processor time, other programs
and a falling clock belong to it. Windows go round all cases, so that each is met early and late.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_client.probe.speaking import say, speak
from edge_client.runtime.auto import plain_weights
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.targets import random_targets
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.masks import random_mask

BATCH: Final = 32
MOMENTUM: Final = 0.9
DENSITIES: Final = (0.1, 0.05, 0.2)  # where time runs out, the first ones have been measured
WINDOW_S: Final = 0.1  # a period of a processor quota: of each, what the quota allows
ROUNDS: Final = 3
SEED: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a kind and size that models for devices have.

    Attributes:
        name: what people call it.
        shape: its sizes, by name.
        plan: the model that has this layer and no other.
    """

    name: str
    shape: dict[str, int]
    plan: Plan


def layers() -> tuple[Layer, ...]:
    """A fully connected layer, a convolution over images, one over signals."""
    return (
        _linear(inputs=1024, outputs=256),
        _conv("conv 32x32x3x3", channels=32, kernel=3, size=(16, 16)),
        _conv("conv 64x64x9", channels=64, kernel=9, size=(50,)),
    )


class Case:
    """One layer at one density, trained over and over.

    Args:
        layer: what is trained.
        density: the share of its weights that is kept.
        clock: seconds.

    Raises:
        EngineError: the kernels do not load.
    """

    def __init__(self, layer: Layer, density: float, clock: Callable[[], float]) -> None:
        rng = np.random.default_rng(SEED)
        plan = layer.plan
        kept = [max(1, round(density * tensor.size)) for tensor in plan.prunable]
        mask = random_mask(plan, kept, rng)
        self._layer, self._density, self._clock = layer, density, clock
        self._work = sparse_cost(plan, kept, BATCH).multiply_adds
        self._samples = rng.standard_normal((BATCH, *plan.input_shape), dtype=np.float32)
        self._targets = random_targets(plan, BATCH, rng)
        self._engine = SparseEngine(
            plan, mask, plain_weights(plan, mask), batch_size=BATCH, momentum=MOMENTUM
        )
        self._steps, self._seconds = 0, 0.0

    def run(self, window_s: float) -> None:
        """Train for so long, after a step that does not count: others have had the caches."""
        self._step()
        start, seconds = self._clock(), 0.0
        while seconds < window_s:
            self._step()
            self._steps += 1
            seconds = self._clock() - start
        self._seconds += seconds

    def row(self) -> dict[str, object]:
        """The document of all windows so far."""
        return {
            "layer": self._layer.name,
            "shape": self._layer.shape,
            "density": self._density,
            "multiply_adds_per_s": self._steps * self._work / self._seconds,
            "seconds": self._seconds,
        }

    def _step(self) -> None:
        self._engine.train_step(self._samples, self._targets, learning_rate=0.0)


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


def _linear(*, inputs: int, outputs: int) -> Layer:
    model = PlanBuilder("linear", (inputs,))
    model.linear("layer", outputs)
    shape = {"inputs": inputs, "outputs": outputs, "batch": BATCH}
    return Layer(name=f"linear {inputs}x{outputs}", shape=shape, plan=model.build())


def _conv(name: str, *, channels: int, kernel: int, size: tuple[int, ...]) -> Layer:
    model = PlanBuilder("conv", (channels, *size))
    model.conv("layer", channels, kernel, pad=kernel // 2)
    model.global_avg_pool()
    model.flatten()
    axes = dict(zip(("height", "width") if len(size) == 2 else ("length",), size, strict=True))
    shape = {"channels": channels, "kernel": kernel, **axes, "batch": BATCH}
    return Layer(name=name, shape=shape, plan=model.build())


def _run(limit_s: float) -> None:
    start = time.perf_counter()
    pairs = [(layer, density) for density in DENSITIES for layer in layers()]
    say(cases=len(pairs))
    cases = [Case(layer, density, time.perf_counter) for layer, density in pairs]
    for row in measure(cases, limit_s - (time.perf_counter() - start)):
        say(row=row)


if __name__ == "__main__":
    speak(_run, sys.argv[1:])
