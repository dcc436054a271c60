"""`auto`: how a plan is trained fastest on this machine, found by timing the real kernels.

For each level: every layer's sparse against its dense kernels, one thread against several, the
native engine against the graph; then what smaller micro-batches cost. Break-even densities are
measured, never assumed. What does not fit in memory is not tried: a batch then takes as long as in
the largest parts that do, and a level that does not fit at all as long as its work says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from edge_client.calibration import LayerTiming, LevelTiming, kept_by_name
from edge_client.runtime.engines import graph_engine_is_here
from edge_client.runtime.micro_batches import micro_batches
from edge_client.runtime.setup import EngineSetup, worth_sharing
from edge_client.runtime.step_times import Clock, StepTimes, Taken
from edge_client.runtime.targets import random_targets
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import random_mask
from fedsparse.types import BoolArray

BUDGET_S: Final = 0.5  # for all comparisons together, on a machine that can
SUSTAINED: Final = 0.8  # as much again for each level, of steps one after the other
WORTH_CHANGE: Final = 0.95  # threads or another engine must take this share of the time, or less
AUTO: Final = "auto"
MIB: Final = 2**20
LEAST_S: Final = 1e-9  # of a step, where the clock of the processor is coarse


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
    allowed = _allowed(plan, choices or Choices())
    sizes = micro_batches(plan, batch_size)
    timings = len(kept) * (2 + len(sizes)) + 1
    bench = StepTimes(
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


def _allowed(plan: Plan, choices: Choices) -> Choices:
    """What is left to choose of a plan."""
    if plan.is_opaque:  # no other engine runs it
        choices = replace(choices, engine="graph")
    if choices.engine == "graph" and choices.graph is None:
        raise EngineError(
            f'the graph engine is asked for ([budget] engine = "graph"), but this device has no '
            f"graph of '{plan.name}': set engine = \"auto\""
        )
    return choices


def _level(
    bench: StepTimes,
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
    stretch = whole_s / max(alone.busy_s, LEAST_S)  # seconds on the wall in one of the processor
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


def _by_work(bench: StepTimes, kept: Sequence[int], timing: LevelTiming) -> LevelTiming:
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
    bench: StepTimes, kept: Sequence[int], mask: BoolArray, candidates: Sequence[EngineSetup]
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
