"""What training steps take on this machine, timed with the real kernels.

A step alone, steps one after the other, every layer's kernels, a step in parts, a drop-and-grow. On
the wall where the sum is what counts; by processor time what is to be compared: a quota falls into
one run and not into the next (docs/decisions/0014-the-speed-that-lasts.md).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.engine import Engine
from edge_client.runtime.engine_cost import engine_cost
from edge_client.runtime.engines import Optimizer, open_engine
from edge_client.runtime.micro_batches import micro_batches, passes
from edge_client.runtime.native.timed import TimedLibrary
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.targets import Targets
from fedsparse.plan import Plan, Role
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import counts_of
from fedsparse.types import BoolArray, Float32Array, Weights

MOST_SUSTAINED: Final = 10_000
EVOLVE_RATE: Final = 0.25  # as at the start of a job
SLOW_S: Final = 0.25  # what took so long is not run again only to be surer
SOON: Final = 1.0  # times what one measurement may take
MOST_RUNS: Final = 30
Clock = Callable[[], float]


def plain_weights(plan: Plan, mask: BoolArray) -> Weights:
    """Small weights, unit scales and variances: nothing overflows, nothing is denormal."""
    dense = [
        np.full(tensor.size, tensor.role in (Role.SCALE, Role.RUNNING_VAR), np.float32)
        for tensor in plan.dense
    ]
    return Weights(
        prunable=np.full(np.count_nonzero(mask), 0.01, np.float32),
        dense=np.concatenate([np.zeros(0, np.float32), *dense]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a step took: on the wall, and of the processor."""

    wall_s: float
    busy_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Times the steps of one plan, and parts of them; what is asked for may be opened in memory.

    Attributes:
        samples, targets: of a whole batch.
        each_s: time for one measurement, where steps are short.
        clock, busy: seconds on the wall, and of the processor.
        sustained_s: how long steps go on for the speed that lasts.
        graph: the file of the model's training graph; None where there is none.
        memory_bytes: by how much the process may still grow.
        library: the kernels, with a clock at every call.
    """

    plan: Plan
    batch_size: int
    samples: Float32Array
    targets: Targets
    each_s: float
    clock: Clock
    busy: Clock
    sustained_s: float = 0.0
    graph: Path | None = None
    memory_bytes: float = math.inf
    library: TimedLibrary = field(default_factory=lambda: TimedLibrary(clock=time.process_time_ns))

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the tensors whose kernels there are two of."""
        return tuple(tensor.name for tensor in self.plan.tensors if tensor.role is Role.WEIGHT)

    def largest(self, kept: Sequence[int], setup: EngineSetup) -> int | None:
        """The largest micro-batch with which a setup fits in memory; None where none does."""
        sizes = micro_batches(self.plan, self.batch_size)
        fits = (size for size in sizes if self.fits(kept, replace(setup, micro_batch=size)))
        return next(fits, None)

    def fits(self, kept: Sequence[int], setup: EngineSetup) -> bool:
        """Whether an engine may be opened to be timed."""
        return self.needs(kept, setup) <= self.memory_bytes

    def needs(self, kept: Sequence[int], setup: EngineSetup) -> int:
        """Memory of an engine, and of the mask and the weights that it is opened with."""
        if math.isinf(self.memory_bytes):
            return 0
        graph = TrainingGraph.from_bytes(self.graph.read_bytes()) if self.graph else None
        engine = engine_cost(self.plan, kept, self.batch_size, setup, graph=graph).peak_bytes
        drawn = 8 * max((tensor.size for tensor in self.plan.prunable), default=0)
        weights = 4 * (sum(kept) + self.plan.num_dense)
        return self.plan.num_prunable + max(drawn, weights + engine)

    def dense_s(self, kept: Sequence[int], mask: BoolArray) -> dict[str, float]:
        """Seconds of each weight tensor's dense kernels in a step; of none, where memory is short.

        They take as long under every mask.
        """
        size = self.largest(kept, EngineSetup(micro_batch=1, dense_layers=self.weights))
        return self.layers_s(mask, size, dense=True) if size is not None else {}

    def layers_s(self, mask: BoolArray, size: int, *, dense: bool) -> dict[str, float]:
        """Seconds of each weight tensor's kernels in a step, all of them sparse or all dense.

        Measured on one micro-batch of `size` samples, of which a step takes so many.
        """
        names = self.weights
        engine = self._native(mask, EngineSetup(micro_batch=size, dense_layers=names * dense))
        self._step(engine, size)
        seconds = dict.fromkeys(names, 0.0)
        times = passes(self.batch_size, size)
        for instruction, taken in zip(engine.program.instructions, self._calls_s(), strict=True):
            name = f"{instruction.node}.weight"
            if name in seconds:
                seconds[name] += taken * times
        return seconds

    def step(self, mask: BoolArray, setup: EngineSetup) -> Taken:
        """A step of the whole batch."""
        return self._step(self._open(mask, setup), self.batch_size)

    def sustained_step_s(self, mask: BoolArray, setup: EngineSetup, alone_s: float) -> float:
        """Seconds of a step among many, as in a round: their mean.

        A processor that is shared, or held back by a quota, does single steps far faster.

        Args:
            mask, setup: of the steps.
            alone_s: the median of single ones; slow ones are what they are.
        """
        if alone_s >= SLOW_S:
            return alone_s
        engine = self._open(mask, setup)
        engine.train_step(self.samples, self.targets, learning_rate=0.0)
        steps, taken_s, start = 0, 0.0, self.clock()
        while steps == 0 or (taken_s < self.sustained_s and steps < MOST_SUSTAINED):
            engine.train_step(self.samples, self.targets, learning_rate=0.0)
            steps, taken_s = steps + 1, self.clock() - start
        return taken_s / steps

    def evolve_busy_s(self, mask: BoolArray, setup: EngineSetup) -> float:
        """Processor time of one drop-and-grow, and of what the engine does for another mask.

        0, which is too little, where memory is short.
        """
        kept = counts_of(self.plan, mask)
        beside = self.plan.num_prunable + 8 * sum(kept)  # a second mask, magnitudes, new values
        if self.needs(kept, setup) + beside > self.memory_bytes:
            return 0.0
        engine, rng = self._open(mask, setup), np.random.default_rng(0)
        start = self.busy()
        engine.replace_mask(
            *drop_and_grow(self.plan, mask, engine.weights().prunable, EVOLVE_RATE, rng)
        )
        return self.busy() - start

    def work(self, kept: Sequence[int], setup: EngineSetup) -> int:
        """Multiply-adds of a step of the whole batch."""
        if setup.engine == "graph" and self.graph is not None:
            graph = TrainingGraph.from_bytes(self.graph.read_bytes())
            return graph.multiply_adds * self.batch_size
        return sparse_cost(self.plan, kept, self.batch_size, setup=setup).multiply_adds

    def divided_busy_s(self, mask: BoolArray, setup: EngineSetup) -> float:
        """Processor time of a step in parts: of one part alone, unless all are soon done.

        Time on the wall would not do: a quota falls into some runs and not into others.
        """
        expected_s = self._expected_s(mask, setup)
        if expected_s > SOON * self.each_s:
            return expected_s
        return self.step(mask, setup).busy_s

    def _expected_s(self, mask: BoolArray, setup: EngineSetup) -> float:
        """One pass is run: all passes take as long, and what a step does once comes once."""
        times = passes(self.batch_size, setup.micro_batch)
        if setup.engine == "graph":  # which updates after every pass then, but that is short
            return times * self._step(self._open(mask, setup), setup.micro_batch).busy_s
        engine = self._native(mask, setup)
        pass_s = self._step(engine, setup.micro_batch).busy_s
        calls_s = self._calls_s()
        start, update = len(engine.program.start), len(engine.program.update)
        once_s = sum(calls_s[:start]) + sum(calls_s[len(calls_s) - update :])
        return once_s + times * max(0.0, pass_s - once_s)

    def _open(self, mask: BoolArray, setup: EngineSetup) -> Engine:
        return open_engine(
            self.plan,
            mask,
            plain_weights(self.plan, mask),
            batch_size=self.batch_size,
            setup=setup,
            optimizer=Optimizer(),
            graph=self.graph,
        )

    def _native(self, mask: BoolArray, setup: EngineSetup) -> SparseEngine:
        """With a clock at every call."""
        return SparseEngine(
            self.plan,
            mask,
            plain_weights(self.plan, mask),
            batch_size=self.batch_size,
            setup=setup,
            momentum=Optimizer().momentum,
            library=self.library,
        )

    def _step(self, engine: Engine, batch: int) -> Taken:
        """A step of `batch` samples: the median, as steps of a round will be."""
        if isinstance(engine, SparseEngine):
            engine.take_pages()
        self.library.times.clear()
        samples, targets = self.samples[:batch], self.targets[:batch]
        times: list[float] = []
        busy: list[float] = []
        while self._go_on(times):
            start, busy_start = self.clock(), self.busy()
            engine.train_step(samples, targets, learning_rate=0.0)
            times.append(self.clock() - start)
            busy.append(self.busy() - busy_start)
        return Taken(
            wall_s=statistics.median(times[1:] or times),
            busy_s=statistics.median(busy[1:] or busy),
        )

    def _go_on(self, times: Sequence[float]) -> bool:
        """The first run may load code, which a slow machine does not notice beside its step."""
        if len(times) < 2:
            return not times or times[0] < SLOW_S
        return sum(times) < self.each_s and len(times) < MOST_RUNS

    def _calls_s(self) -> list[float]:
        """Seconds of each call since the last measurement began, the fastest of each."""
        return [min(taken) / 1e9 for taken in self.library.times.values()]
