"""`auto` on the real kernels: what it measures, and what it chooses."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_plans import residual_plan
from engines import graph_of

from edge_client.calibration import LevelTiming, kept_by_name
from edge_client.runtime.auto import Choices, calibrate
from edge_client.runtime.native.library import Address, Library
from edge_client.runtime.native.timed import TimedLibrary
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.step_times import StepTimes, Taken, plain_weights
from fedsparse.errors import EngineError
from fedsparse.plan import Loss, Plan
from fedsparse.plan.zoo import PLANS
from fedsparse.sparsity.masks import random_mask
from fedsparse.types import BoolArray


def counts(plan: Plan, share: float) -> list[int]:
    return [max(1, round(share * tensor.size)) for tensor in plan.prunable]


def timings_of(
    plan: Plan, shares: tuple[float, ...], choices: Choices | None = None
) -> tuple[LevelTiming, ...]:
    """Of batches of eight."""
    levels = [counts(plan, share) for share in shares]
    rng = np.random.default_rng(0)
    return calibrate(plan, levels, 8, rng=rng, choices=choices, budget_s=0.05)


@pytest.mark.parametrize("loss", list(Loss))
def test_every_level_is_timed_at_every_micro_batch(loss: Loss) -> None:
    plan = replace(PLANS["digits"](), loss=loss)
    low, high = timings_of(plan, (0.05, 0.5))
    for timing in (low, high):
        assert list(timing.step_s) == [8, 4, 2, 1]
        assert timing.layers.keys() == {"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"}
        assert (timing.engine, timing.threads) == ("sparse", 1)
    assert low.multiply_adds < high.multiply_adds


def test_batch_norm_is_not_timed_on_fewer_than_four_samples() -> None:
    assert list(timings_of(residual_plan(), (0.2,))[0].step_s) == [8, 4]


def test_layers_are_chosen_by_their_own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse time grows with what is kept, dense time does not: each layer breaks even."""
    plan = PLANS["mnist"]()
    names = ("conv2.weight", "fc1.weight")

    def layers_s(bench: object, mask: np.ndarray, size: int, *, dense: bool) -> dict[str, float]:
        share = np.count_nonzero(mask) / mask.size
        sparse = {"conv2.weight": 2.0 * share, "fc1.weight": 4.0 * share}
        return dict.fromkeys(names, 1.0) if dense else sparse

    monkeypatch.setattr(StepTimes, "layers_s", layers_s)
    monkeypatch.setattr(StepTimes, "step", lambda *_: Taken(wall_s=1.0, busy_s=1.0))
    monkeypatch.setattr(StepTimes, "divided_busy_s", lambda *_: 1.0)
    shares = (0.8, 0.4, 0.2)
    chosen = [
        timing.setup(kept_by_name(plan, counts(plan, share)), 8).dense_layers
        for share, timing in zip(shares, timings_of(plan, shares), strict=True)
    ]
    assert chosen == [names, ("fc1.weight",), ()]


@pytest.mark.parametrize(("shared_s", "threads"), [(0.5, 4), (0.94, 4), (0.96, 1), (2.0, 1)])
def test_threads_are_taken_only_where_they_are_faster(
    monkeypatch: pytest.MonkeyPatch, shared_s: float, threads: int
) -> None:
    def step(bench: object, mask: object, setup: EngineSetup) -> Taken:
        return Taken(wall_s=shared_s if setup.threads > 1 else 1.0, busy_s=1.0)

    monkeypatch.setattr(StepTimes, "step", step)
    assert timings_of(residual_plan(), (0.2,), Choices(threads=4))[0].threads == threads


class HeldBack:
    """An engine on a processor with a quota: `WORK_S` a step, `QUOTA_S` of every `PERIOD_S`."""

    WORK_S, QUOTA_S, PERIOD_S = 0.001, 0.004, 0.020

    def __init__(self) -> None:
        self.worked_s = 0.0

    def train_step(self, samples: object, targets: object, *, learning_rate: float) -> None:
        del samples, targets, learning_rate
        self.worked_s += self.WORK_S

    def clock(self) -> float:
        periods, rest_s = divmod(self.worked_s, self.QUOTA_S)
        return periods * self.PERIOD_S + rest_s


def test_a_level_is_as_fast_as_it_stays_and_not_as_fast_as_single_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = HeldBack()
    monkeypatch.setattr(StepTimes, "_open", lambda *_: engine)
    bench = StepTimes(
        plan=PLANS["digits"](),
        batch_size=8,
        samples=np.zeros((8, 1, 8, 8), np.float32),
        targets=np.zeros(8, np.int32),
        each_s=0.1,
        clock=engine.clock,
        busy=engine.clock,
        sustained_s=0.4,
    )
    mask, setup = np.ones(100_352, np.bool_), EngineSetup(micro_batch=8)
    alone_s = bench.step(mask, setup).wall_s
    sustained_s = bench.sustained_step_s(mask, setup, alone_s)
    as_held_back_s = HeldBack.WORK_S * HeldBack.PERIOD_S / HeldBack.QUOTA_S
    assert alone_s == pytest.approx(HeldBack.WORK_S)
    assert sustained_s == pytest.approx(as_held_back_s, rel=0.1)
    assert bench.sustained_step_s(mask, setup, alone_s=2.0) == 2.0


def test_a_smaller_micro_batch_is_never_said_to_be_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Caches may make it so; but then more memory would make a device expect to be slower."""
    times = iter([1.5, 0.5, 2.5])
    monkeypatch.setattr(StepTimes, "step", lambda *_: Taken(wall_s=2.0, busy_s=1.0))
    monkeypatch.setattr(StepTimes, "divided_busy_s", lambda *_: next(times))
    timing = timings_of(PLANS["digits"](), (0.2,))[0]
    assert timing.step_s == {8: 2.0, 4: 3.0, 2: 3.0, 1: 5.0}


@pytest.mark.parametrize(("step_s", "evolve_s"), [(2.0, 2.0), (0.5, 1.0)])
def test_a_drop_and_grow_is_held_back_as_steps_are_and_has_one_thread(
    monkeypatch: pytest.MonkeyPatch, step_s: float, evolve_s: float
) -> None:
    """A quota that falls into it, or not, says nothing of the next one."""
    monkeypatch.setattr(StepTimes, "step", lambda *_: Taken(wall_s=9.0, busy_s=1.0))
    monkeypatch.setattr(StepTimes, "sustained_step_s", lambda *_: step_s)
    monkeypatch.setattr(StepTimes, "divided_busy_s", lambda *_: 1.0)
    monkeypatch.setattr(StepTimes, "evolve_busy_s", lambda *_: 1.0)
    assert timings_of(PLANS["digits"](), (0.2,))[0].evolve_s == evolve_s


def test_a_slow_machine_runs_everything_once() -> None:
    """Sparse and dense layers, the step, a pass of each smaller micro-batch, a drop-and-grow."""
    ticks, busy = itertools.count(step=10), itertools.count(step=10)
    plan = PLANS["digits"]()
    timings = calibrate(
        plan,
        [counts(plan, 0.1)] * 3,
        4,
        rng=np.random.default_rng(0),
        clock=lambda: float(next(ticks)),
        busy=lambda: float(next(busy)),
    )
    assert all(timing.step_s[4] == 10 for timing in timings)
    steps_of_a_level = 1 + 1 + 2
    assert next(ticks) == 10 * 2 * (1 + 3 * steps_of_a_level)
    assert next(busy) == 10 * 2 * (1 + 3 * (steps_of_a_level + 1))


def test_sparse_kernels_alone_are_all_that_is_timed_where_no_others_are_allowed() -> None:
    (timing,) = timings_of(PLANS["digits"](), (1.0,), Choices(engine="sparse"))
    counts_of = kept_by_name(PLANS["digits"](), counts(PLANS["digits"](), 1.0))
    assert timing.setup(counts_of, 8) == EngineSetup(micro_batch=8)


def test_a_graph_that_is_asked_for_and_not_there_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EngineError, match='set engine = "auto"'):
        calibrate(
            residual_plan(),
            [counts(residual_plan(), 0.2)],
            4,
            rng=np.random.default_rng(0),
            choices=Choices(engine="graph"),
        )


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "training.graph"
    path.write_bytes(graph_of(PLANS["digits"]()).to_bytes())
    return path


@pytest.mark.parametrize(("native_s", "engine"), [(100.0, "graph"), (1e-9, "sparse")])
def test_the_graph_is_taken_where_it_is_faster(
    graph: Path, native_s: float, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime really runs here, and takes its time; the native engine's is what a test says."""
    plain = StepTimes.step

    def step(bench: StepTimes, mask: BoolArray, setup: EngineSetup) -> Taken:
        native = Taken(wall_s=native_s, busy_s=native_s)
        return native if setup.engine == "sparse" else plain(bench, mask, setup)

    monkeypatch.setattr(StepTimes, "step", step)
    (timing,) = timings_of(PLANS["digits"](), (0.2,), Choices(graph=graph))
    assert timing.engine == engine
    assert list(timing.step_s) == [8, 4, 2, 1]


def test_the_graph_alone_is_timed_where_it_is_asked_for(graph: Path) -> None:
    (timing,) = timings_of(PLANS["digits"](), (0.2,), Choices(graph=graph, engine="graph"))
    setup = timing.setup(kept_by_name(PLANS["digits"](), counts(PLANS["digits"](), 0.2)), 4)
    assert setup == EngineSetup(engine="graph", micro_batch=4)


def test_without_onnxruntime_the_native_engine_is_taken(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("edge_client.runtime.engines.find_spec", lambda _: None)
    (timing,) = timings_of(PLANS["digits"](), (0.2,), Choices(graph=graph))
    assert timing.engine == "sparse"
    with pytest.raises(EngineError, match="pip install"):
        timings_of(PLANS["digits"](), (0.2,), Choices(graph=graph, engine="graph"))


class Counted(Library):
    """The kernels, counting their calls: the time of a machine on which every call takes as long.

    Wall time would say what else runs on the machine.
    """

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        plain = self.run

        def run(calls: Address, count: int, batch: int, team: Address | None) -> None:
            Counted.calls += count
            plain(calls, count, batch, team)

        self.run = run


@pytest.mark.parametrize("model", ["mnist", "watch"])
@pytest.mark.parametrize("micro_batch", [16, 4, 1])
def test_a_divided_step_is_as_many_passes_and_one_update(
    model: str, micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass is run for it; a step in full must take what was worked out, call by call."""
    plan = PLANS[model]()
    rng = np.random.default_rng(0)
    mask = random_mask(plan, counts(plan, 0.1), rng)
    setup = EngineSetup(micro_batch=micro_batch)
    ticks_ns = itertools.count()
    bench = StepTimes(
        plan=plan,
        batch_size=32,
        samples=rng.standard_normal((32, *plan.input_shape), dtype=np.float32),
        targets=rng.integers(0, plan.classes, 32, dtype=np.int32),
        each_s=0.0,
        clock=time.perf_counter,
        busy=lambda: Counted.calls / 1e9,
        library=TimedLibrary(clock=lambda: next(ticks_ns)),
    )
    whole = Counted()
    engine = SparseEngine(
        plan, mask, plain_weights(plan, mask), batch_size=32, setup=setup, momentum=0.9,
        library=whole,
    )  # fmt: skip
    before = Counted.calls
    engine.train_step(bench.samples, bench.targets, learning_rate=0.0)
    full_step = Counted.calls - before
    run_each = bench.library.run

    def counted(calls: Address, count: int, batch: int, team: Address | None) -> None:
        Counted.calls += count
        run_each(calls, count, batch, team)

    bench.library.run = counted
    assert bench._expected_s(mask, setup) == pytest.approx(full_step / 1e9)


# Where memory is short


def needs(plan: Plan, share: float, micro_batch: int) -> int:
    """What it takes to open an engine of sparse kernels."""
    bench = StepTimes(
        plan=plan,
        batch_size=8,
        samples=np.zeros((8, *plan.input_shape), np.float32),
        targets=np.zeros(8, np.int32),
        each_s=0.0,
        clock=lambda: 0.0,
        busy=lambda: 0.0,
        memory_bytes=1.0,
    )
    return bench.needs(counts(plan, share), EngineSetup(micro_batch=micro_batch))


def opened(
    plan: Plan, shares: tuple[float, ...], memory_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[tuple[LevelTiming, ...], list[tuple[int, int]]]:
    """The timings, and (kept, micro-batch) of every engine that was opened for them."""
    found: list[tuple[int, int]] = []
    native = StepTimes._native
    open_ = StepTimes._open

    def spied(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(bench: object, mask: BoolArray, setup: EngineSetup) -> object:
            found.append((int(np.count_nonzero(mask)), setup.micro_batch))
            return method(bench, mask, setup)

        return call

    monkeypatch.setattr(StepTimes, "_native", spied(native))
    monkeypatch.setattr(StepTimes, "_open", spied(open_))
    return timings_of(plan, shares, Choices(memory_bytes=memory_bytes)), found


def test_micro_batches_that_do_not_fit_take_as_long_as_the_largest_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = PLANS["mnist"]()
    (timing,), found = opened(plan, (0.2,), needs(plan, 0.2, 2), monkeypatch)
    assert list(timing.step_s) == [8, 4, 2, 1]
    assert timing.step_s[8] == timing.step_s[4] == timing.step_s[2] <= timing.step_s[1]
    assert {size for _, size in found} == {1, 2}


def test_a_level_that_does_not_fit_takes_as_long_as_its_work_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = PLANS["mnist"]()
    (high, low), found = opened(plan, (0.9, 0.05), needs(plan, 0.9, 1) - 1, monkeypatch)
    assert {kept for kept, _ in found} == {sum(counts(plan, 0.05))}
    longer = high.multiply_adds / low.multiply_adds
    assert longer > 1
    assert high.step_s == {size: pytest.approx(longer * low.step_s[size]) for size in low.step_s}
    assert (high.engine, high.threads) == (low.engine, low.threads)
    assert high.evolve_s == low.evolve_s > 0


def test_where_even_the_smallest_level_does_not_fit_the_reason_has_the_figures() -> None:
    plan = PLANS["mnist"]()
    enough = needs(plan, 0.05, 1)
    with pytest.raises(EngineError, match=r"smallest level needs .* MiB in micro-batches of 1"):
        timings_of(plan, (0.9, 0.05), Choices(memory_bytes=enough - 1))
    assert len(timings_of(plan, (0.9, 0.05), Choices(memory_bytes=enough))) == 2


def test_dense_kernels_are_no_choice_where_they_do_not_fit() -> None:
    plan = PLANS["mnist"]()
    (timing,) = timings_of(plan, (0.05,), Choices(memory_bytes=needs(plan, 0.05, 1)))
    assert timing.layers == {}
    assert timing.setup(kept_by_name(plan, counts(plan, 0.05)), 8).dense_layers == ()
