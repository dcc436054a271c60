"""`auto`: how a plan is trained fastest on this machine, found by timing the real kernels.

For each level: every layer's sparse against its dense kernels, one thread against several, the
native engine against the graph; then what smaller micro-batches cost. Break-even densities are
measured, never assumed. What does not fit in memory is not tried: a batch then takes as long as in
the largest parts that do, and a level that does not fit at all as long as its work says.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from edge_client.calibration import LayerTiming, LevelTiming, kept_by_name
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.engine import Engine
from edge_client.runtime.engine_cost import engine_cost
from edge_client.runtime.engines import Optimizer, graph_engine_is_here, open_engine
from edge_client.runtime.micro_batches import micro_batches, passes
from edge_client.runtime.native.timed import TimedLibrary
from edge_client.runtime.setup import EngineSetup, worth_sharing
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.targets import Targets, random_targets
from fedsparse.errors import EngineError
from fedsparse.plan import Plan, Role
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import counts_of, random_mask
from fedsparse.types import BoolArray, Float32Array, Weights

BUDGET_S: Final = 0.5  # for all comparisons together, on a machine that can
SUSTAINED: Final = 0.8  # as much again for each level, of steps one after the other
MOST_SUSTAINED: Final = 10_000
EVOLVE_RATE: Final = 0.25  # as at the start of a job
SLOW_S: Final = 0.25  # what took so long is not run again only to be surer
SOON: Final = 1.0  # times what one measurement may take
MOST_RUNS: Final = 30
WORTH_CHANGE: Final = 0.95  # threads or another engine must take this share of the time, or less
AUTO: Final = "auto"
Clock = Callable[[], float]
MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What may be chosen.

    Attributes:
        threads: the most.
        engine: `auto`; or `sparse`, its sparse kernels alone, which give the same result to the
            bit in every run; or `graph` alone.
        graph: the file of the model's training graph; None where there is none.
        memory_bytes: by how much the process may still grow.
    """

    threads: int = 1
    engine: str = AUTO
    graph: Path | None = None
    memory_bytes: float = math.inf


def calibrate(
    plan: Plan,
    kept: Sequence[Sequence[int]],
    batch_size: int,
    *,
    rng: np.random.Generator,
    choices: Choices | None = None,
    budget_s: float = BUDGET_S,
    clock: Clock = time.perf_counter,
    busy: Clock = time.process_time,
) -> tuple[LevelTiming, ...]:
    """Time training steps on random masks and samples; the weights do not matter, nor do they move.

    Args:
        plan: the model.
        kept: for each level, the kept weights of each prunable tensor.
        batch_size: of the steps.
        rng: makes masks and samples.
        choices: by default one thread.
        budget_s: time for all comparisons, and about as much for each level's speed; a slow machine
            takes what one run of each needs.
        clock, busy: seconds on the wall, and of the processor.

    Raises:
        EngineError: the engine cannot run the plan, or even the smallest level does not fit.
    """
    allowed = choices or Choices()
    if plan.is_opaque:  # no other engine runs it
        allowed = replace(allowed, engine="graph")
    if allowed.engine == "graph" and allowed.graph is None:
        raise EngineError(
            f'the graph engine is asked for ([budget] engine = "graph"), but this device has no '
            f"graph of '{plan.name}': set engine = \"auto\""
        )
    sizes = micro_batches(plan, batch_size)
    timings = len(kept) * (2 + len(sizes)) + 1
    bench = _Bench(
        plan=plan,
        batch_size=batch_size,
        samples=rng.standard_normal((batch_size, *plan.input_shape), dtype=np.float32),
        targets=random_targets(plan, batch_size, rng),
        each_s=budget_s / timings,
        sustained_s=SUSTAINED * budget_s,
        clock=clock,
        busy=busy,
        graph=allowed.graph,
        memory_bytes=allowed.memory_bytes,
    )
    timed: dict[int, LevelTiming] = {}
    dense_s: dict[str, float] | None = None
    before: LevelTiming | None = None
    for index in sorted(range(len(kept)), key=lambda index: sum(kept[index])):
        counts = kept[index]
        if bench.largest(counts, _native(allowed, batch_size)) is None and before is not None:
            timed[index] = _by_work(bench, counts, before)
            continue
        mask = random_mask(plan, counts, rng)
        if dense_s is None:
            dense_s = bench.dense_s(counts, mask) if allowed.engine == AUTO else {}
        timed[index] = _level(bench, counts, mask, dense_s, allowed)
        before = timed[index]
    return tuple(timed[index] for index in range(len(kept)))


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
class _Bench:
    """What is timed, on what, for how long."""

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


def _level(
    bench: _Bench,
    kept: Sequence[int],
    mask: BoolArray,
    dense_s: Mapping[str, float],
    choices: Choices,
) -> LevelTiming:
    """Choose layers, then threads; then see what smaller micro-batches cost."""
    counts = kept_by_name(bench.plan, kept)
    sizes = micro_batches(bench.plan, bench.batch_size)
    native = _native(choices, bench.batch_size)
    size = bench.largest(kept, native)
    if size is None:
        least = bench.needs(kept, replace(native, micro_batch=sizes[-1]))
        raise EngineError(
            f"'{bench.plan.name}' cannot be timed: its smallest level needs {least / MIB:.0f} MiB "
            f"in micro-batches of {sizes[-1]} beside the trainer, which may take "
            f"{max(0.0, bench.memory_bytes) / MIB:.0f}"
        )
    sparse_s = bench.layers_s(mask, size, dense=False) if dense_s else {}
    layers = {
        name: LayerTiming(kept=counts[name], sparse_s=sparse_s[name], dense_s=seconds)
        for name, seconds in dense_s.items()
    }
    dense = tuple(name for name in layers if layers[name].prefers_dense(counts[name]))
    setup = EngineSetup(micro_batch=size, dense_layers=dense)
    fitting = [one for one in _candidates(setup, choices) if bench.fits(kept, one)]
    setup, alone = _fastest(bench, kept, mask, fitting or [replace(native, micro_batch=size)])
    whole_s = bench.sustained_step_s(mask, setup, alone.wall_s)
    stretch = whole_s / alone.busy_s  # seconds on the wall in one of the processor
    step_s = dict.fromkeys((one for one in sizes if one >= size), whole_s)
    for smaller in sizes[len(step_s) :]:
        busy_s = bench.divided_busy_s(mask, replace(setup, micro_batch=smaller))
        step_s[smaller] = max(stretch * busy_s, *step_s.values())
    return LevelTiming(
        step_s=step_s,
        multiply_adds=bench.work(kept, setup),
        engine=setup.engine,
        threads=setup.threads,
        shared_work=setup.shared_work,
        layers=layers,
        evolve_s=max(1.0, stretch) * bench.evolve_busy_s(mask, setup),  # by one thread
    )


def _native(choices: Choices, micro_batch: int) -> EngineSetup:
    """The setup that takes the least memory, of the engines that may be chosen."""
    engine = "graph" if choices.engine == "graph" else "sparse"
    return EngineSetup(engine=engine, micro_batch=micro_batch)


def _by_work(bench: _Bench, kept: Sequence[int], timing: LevelTiming) -> LevelTiming:
    """A level that does not fit in memory: as fast as the next smaller one, for its work."""
    setup = timing.setup(kept_by_name(bench.plan, kept), bench.batch_size)
    work = bench.work(kept, setup)
    longer = work / timing.multiply_adds
    return replace(
        timing,
        multiply_adds=work,
        step_s={size: longer * seconds for size, seconds in timing.step_s.items()},
    )


def _candidates(native: EngineSetup, choices: Choices) -> list[EngineSetup]:
    """Engines with one thread and with all; a later one must be worth it."""
    engines = [native] if choices.engine != "graph" else []
    graph_is_wanted = choices.engine in (AUTO, "graph") and graph_engine_is_here(choices.graph)
    if graph_is_wanted or not engines:
        engines.append(replace(native, engine="graph", dense_layers=()))
    threads = (1,) if choices.threads == 1 else (1, choices.threads)
    return [replace(setup, threads=count) for setup in engines for count in threads]


def _fastest(
    bench: _Bench, kept: Sequence[int], mask: BoolArray, candidates: Sequence[EngineSetup]
) -> tuple[EngineSetup, Taken]:
    """The setup of the fastest step, and what that took; hardly faster is not faster."""
    best, taken = candidates[0], bench.step(mask, candidates[0])
    alone_s = taken.wall_s
    for candidate in candidates[1:]:
        setup = candidate
        if setup.threads > 1:
            large = worth_sharing(bench.work(kept, setup), alone_s)
            setup = replace(setup, shared_work=large)
        other = bench.step(mask, setup)
        alone_s = other.wall_s if setup.threads == 1 else alone_s
        if other.wall_s < WORTH_CHANGE * taken.wall_s:
            best, taken = setup, other
    return best, taken
