"""`auto`: how a plan is trained fastest on this machine, found by timing the real kernels.

For each level: every layer's sparse against its dense kernels, one thread against several, the
native engine against the graph; then what smaller micro-batches cost. Break-even densities are
measured, never assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from edge_client.calibration import LayerTiming, LevelTiming, kept_by_name
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.micro_batches import micro_batches, passes
from edge_client.runtime.native.library import Library
from edge_client.runtime.native.timed import TimedLibrary
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.targets import Targets, random_targets
from fedsparse.errors import EngineError
from fedsparse.plan import Plan, Role
from fedsparse.sparsity.masks import random_mask
from fedsparse.types import BoolArray, Float32Array, Weights

BUDGET_S: Final = 0.5  # for all measurements together, on a machine that can
SLOW_S: Final = 0.25  # what took so long is not run again only to be surer
MOST_RUNS: Final = 30
WORTH_THREADS: Final = 0.95  # several threads must take this share of one's time, or less
MOMENTUM: Final = 0.9
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What may be chosen.

    Attributes:
        threads: the most.
        engine: `auto`; or `sparse`, its sparse kernels alone, which give the same result to the
            bit in every run; or `graph` alone.
        graph: the training step of the model as a graph; None where there is none.
    """

    threads: int = 1
    engine: str = AUTO
    graph: Path | None = None


def calibrate(
    plan: Plan,
    kept: Sequence[Sequence[int]],
    batch_size: int,
    *,
    rng: np.random.Generator,
    choices: Choices | None = None,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[LevelTiming, ...]:
    """Time training steps on random masks and samples; the weights do not matter, nor do they move.

    Args:
        plan: the model.
        kept: for each level, the kept weights of each prunable tensor.
        batch_size: of the steps.
        rng: makes masks and samples.
        choices: by default one thread.
        budget_s: time for everything; a slow machine takes what one run of each needs.
        clock: seconds.

    Raises:
        EngineError: the engine cannot run the plan.
    """
    allowed = choices or Choices()
    if allowed.engine == "graph":
        raise EngineError(
            f'the graph engine is asked for ([budget] engine = "graph"), but this device has no '
            f"graph of '{plan.name}': set engine = \"auto\""
        )
    sizes = micro_batches(plan, batch_size)
    timings = len(kept) * (2 + len(sizes)) + 1
    by_layer = allowed.engine == AUTO
    bench = _Bench(
        plan=plan,
        batch_size=batch_size,
        samples=rng.standard_normal((batch_size, *plan.input_shape), dtype=np.float32),
        targets=random_targets(plan, batch_size, rng),
        each_s=budget_s / timings,
        clock=clock,
    )
    masks = [random_mask(plan, counts, rng) for counts in kept]
    dense_s = bench.layers_s(masks[0], dense=True) if by_layer else {}
    levels = zip(kept, masks, strict=True)
    return tuple(_level(bench, counts, mask, dense_s, allowed) for counts, mask in levels)


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
class _Bench:
    """What is timed, on what, for how long."""

    plan: Plan
    batch_size: int
    samples: Float32Array
    targets: Targets
    each_s: float
    clock: Callable[[], float]
    library: TimedLibrary = field(default_factory=TimedLibrary)

    def layers_s(self, mask: BoolArray, *, dense: bool) -> dict[str, float]:
        """Seconds of each weight tensor's kernels in a step, all of them sparse or all dense."""
        names = [tensor.name for tensor in self.plan.tensors if tensor.role is Role.WEIGHT]
        setup = EngineSetup(micro_batch=self.batch_size, dense_layers=tuple(names) if dense else ())
        engine = self._open(mask, setup, self.library)
        self._step_s(engine, self.batch_size)
        seconds = dict.fromkeys(names, 0.0)
        for instruction, taken in zip(engine.program.instructions, self._calls_s(), strict=True):
            name = f"{instruction.node}.weight"
            if name in seconds:
                seconds[name] += taken
        return seconds

    def step_s(self, mask: BoolArray, setup: EngineSetup) -> float:
        """Seconds of a step of the whole batch, in one piece."""
        return self._step_s(self._open(mask, setup), self.batch_size)

    def divided_step_s(self, mask: BoolArray, setup: EngineSetup) -> float:
        """Seconds of a step in micro-batches: one of them is run, and what a step does once."""
        engine = self._open(mask, setup, self.library)
        pass_s = self._step_s(engine, setup.micro_batch)
        calls_s = self._calls_s()
        start, update = len(engine.program.start), len(engine.program.update)
        once_s = sum(calls_s[:start]) + sum(calls_s[len(calls_s) - update :])
        return once_s + passes(self.batch_size, setup.micro_batch) * max(0.0, pass_s - once_s)

    def _open(
        self, mask: BoolArray, setup: EngineSetup, library: Library | None = None
    ) -> SparseEngine:
        return SparseEngine(
            self.plan,
            mask,
            plain_weights(self.plan, mask),
            batch_size=self.batch_size,
            setup=setup,
            momentum=MOMENTUM,
            library=library,
        )

    def _step_s(self, engine: SparseEngine, batch: int) -> float:
        """Seconds of a step of `batch` samples, the fastest of several."""
        self.library.times.clear()
        samples, targets = self.samples[:batch], self.targets[:batch]
        times: list[float] = []
        while self._go_on(times):
            start = self.clock()
            engine.train_step(samples, targets, learning_rate=0.0)
            times.append(self.clock() - start)
        return min(times)

    def _go_on(self, times: Sequence[float]) -> bool:
        """The first run takes its pages from the system, which a slow machine does not notice."""
        if len(times) < 2:
            return not times or times[0] < SLOW_S
        return sum(times) < self.each_s and len(times) < MOST_RUNS

    def _calls_s(self) -> list[float]:
        """Seconds of each call since the last measurement began, the fastest of each."""
        return [min(taken) / 1e9 for taken in self.library.times.values()]


def _level(
    bench: _Bench,
    kept: Sequence[int],
    mask: BoolArray,
    dense_s: Mapping[str, float],
    choices: Choices,
) -> LevelTiming:
    """Choose layers, then threads; then see what smaller micro-batches cost."""
    counts, size = kept_by_name(bench.plan, kept), bench.batch_size
    sparse_s = bench.layers_s(mask, dense=False) if dense_s else {}
    layers = {
        name: LayerTiming(kept=counts[name], sparse_s=sparse_s[name], dense_s=seconds)
        for name, seconds in dense_s.items()
    }
    dense = tuple(name for name in layers if layers[name].prefers_dense(counts[name]))
    setup = EngineSetup(micro_batch=size, dense_layers=dense)
    step_s = {size: bench.step_s(mask, setup)}
    if choices.threads > 1:
        shared = replace(setup, threads=choices.threads)
        shared_s = bench.step_s(mask, shared)
        if shared_s < WORTH_THREADS * step_s[size]:
            setup, step_s = shared, {size: shared_s}
    for smaller in micro_batches(bench.plan, size)[1:]:
        measured_s = bench.divided_step_s(mask, replace(setup, micro_batch=smaller))
        step_s[smaller] = max(measured_s, *step_s.values())
    return LevelTiming(
        step_s=step_s,
        multiply_adds=sparse_cost(bench.plan, kept, size, setup=setup).multiply_adds,
        engine=setup.engine,
        threads=setup.threads,
        layers=layers,
    )
