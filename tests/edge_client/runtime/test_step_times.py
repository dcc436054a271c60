"""What steps are timed by: the processor or the wall, and what counts to them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest
from test_auto import HeldBack

from edge_client.runtime.auto import Choices, calibrate
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.step_times import StepTimes
from fedsparse.errors import EngineError
from fedsparse.plan import INPUT, Node, Plan
from fedsparse.plan.operators import GraphModel
from fedsparse.plan.zoo import PLANS
from fedsparse.sparsity.masks import random_mask
from fedsparse.types import BoolArray, Float32Array


class Shared:
    """An engine on a processor of which it has a fifth: `WORK_S` of it a step, 5 x on the wall."""

    WORK_S = 0.001

    def __init__(self) -> None:
        self.worked_s = 0.0

    def train_step(self, samples: object, targets: object, *, learning_rate: float) -> None:
        del samples, targets, learning_rate
        self.worked_s += self.WORK_S

    def clock(self) -> float:
        return 5 * self.worked_s

    def busy(self) -> float:
        return self.worked_s


@pytest.mark.parametrize(("each_s", "passes"), [(0.0, 2), (1.0, 1)], ids=["one part", "in full"])
def test_a_step_in_parts_is_timed_by_the_processor_and_not_by_the_wall(
    monkeypatch: pytest.MonkeyPatch, each_s: float, passes: int
) -> None:
    engine = Shared()
    monkeypatch.setattr(StepTimes, "_open", lambda *_: engine)
    bench = StepTimes(
        plan=PLANS["digits"](),
        batch_size=8,
        samples=np.zeros((8, 1, 8, 8), np.float32),
        targets=np.zeros(8, np.int32),
        each_s=each_s,
        clock=engine.clock,
        busy=engine.busy,
    )
    mask, setup = np.ones(100_352, np.bool_), EngineSetup(engine="graph", micro_batch=4)
    assert bench.divided_busy_s(mask, setup) == pytest.approx(passes * Shared.WORK_S)


def bench_of_mnist(busy: Callable[[], float], memory_bytes: float) -> StepTimes:
    plan = PLANS["mnist"]()
    return StepTimes(
        plan=plan,
        batch_size=8,
        samples=np.zeros((8, *plan.input_shape), np.float32),
        targets=np.zeros(8, np.int32),
        each_s=0.0,
        clock=lambda: 0.0,
        busy=busy,
        memory_bytes=memory_bytes,
    )


def test_a_drop_and_grow_is_timed_with_what_the_engine_does_for_another_mask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And only where a second mask has room beside the engine."""
    plan = PLANS["mnist"]()
    masks: list[BoolArray] = []
    replace_mask = SparseEngine.replace_mask

    def seen(engine: SparseEngine, mask: BoolArray, values: Float32Array) -> None:
        masks.append(mask)
        replace_mask(engine, mask, values)

    monkeypatch.setattr(SparseEngine, "replace_mask", seen)
    kept = [max(1, round(0.1 * tensor.size)) for tensor in plan.prunable]
    mask = random_mask(plan, kept, np.random.default_rng(0))
    setup = EngineSetup(micro_batch=8)
    enough = bench_of_mnist(lambda: 0.0, 1.0).needs(kept, setup) + plan.num_prunable + 8 * sum(kept)
    busy = lambda: float(len(masks))  # noqa: E731 (a second for another mask, and nothing else)
    assert bench_of_mnist(busy, enough - 1).evolve_busy_s(mask, setup) == 0.0
    assert not masks
    assert bench_of_mnist(busy, enough).evolve_busy_s(mask, setup) == 1.0
    assert np.count_nonzero(masks[0]) == sum(kept)
    assert (masks[0] != mask).any()


class SlowAtFirst(Shared):
    """Its first step loads code: a hundred times as long as the others."""

    def train_step(self, samples: object, targets: object, *, learning_rate: float) -> None:
        del samples, targets, learning_rate
        self.worked_s += self.WORK_S if self.worked_s else 100 * self.WORK_S


def test_what_the_first_step_takes_is_no_part_of_the_speed_that_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = SlowAtFirst()
    monkeypatch.setattr(StepTimes, "_open", lambda *_: engine)
    bench = StepTimes(
        plan=PLANS["digits"](),
        batch_size=8,
        samples=np.zeros((8, 1, 8, 8), np.float32),
        targets=np.zeros(8, np.int32),
        each_s=0.0,
        clock=engine.busy,
        busy=engine.busy,
        sustained_s=0.1,
    )
    mask, setup = np.ones(100_352, np.bool_), EngineSetup(micro_batch=8)
    alone = bench.step(mask, setup)
    assert alone.wall_s == alone.busy_s == pytest.approx(Shared.WORK_S)
    engine.worked_s = 0.0  # another one is opened
    sustained_s = bench.sustained_step_s(mask, setup, alone.wall_s)
    assert sustained_s == pytest.approx(Shared.WORK_S)


def test_a_calibration_goes_on_until_a_quota_is_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, plan = HeldBack(), PLANS["digits"]()
    monkeypatch.setattr(StepTimes, "_open", lambda *_: engine)
    monkeypatch.setattr(StepTimes, "divided_busy_s", lambda *_: 0.0)
    monkeypatch.setattr(StepTimes, "evolve_busy_s", lambda *_: 0.0)
    kept = [round(0.2 * tensor.size) for tensor in plan.prunable]
    (timing,) = calibrate(
        plan, [kept], 8, rng=np.random.default_rng(0), choices=Choices(engine="sparse"),
        clock=engine.clock, busy=lambda: engine.worked_s,
    )  # fmt: skip
    as_held_back_s = HeldBack.WORK_S * HeldBack.PERIOD_S / HeldBack.QUOTA_S
    assert timing.step_s[8] == pytest.approx(as_held_back_s, rel=0.1)


def test_layers_are_timed_by_the_processor_and_not_by_the_wall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a processor on which every call takes a nanosecond, whatever the wall says."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "process_time_ns", lambda: next(ticks))
    plan = PLANS["digits"]()
    mask = random_mask(
        plan, [tensor.size // 5 for tensor in plan.prunable], np.random.default_rng(0)
    )
    seconds = bench_of_digits().layers_s(mask, 8, dense=False)
    assert all(0 < one < 1e-7 for one in seconds.values())


def bench_of_digits() -> StepTimes:
    return StepTimes(
        plan=PLANS["digits"](),
        batch_size=8,
        samples=np.zeros((8, 1, 8, 8), np.float32),
        targets=np.zeros(8, np.int32),
        each_s=0.0,
        clock=time.perf_counter,
        busy=time.process_time,
    )


@pytest.mark.parametrize("engine", ["auto", "sparse"])
def test_a_model_that_is_a_graph_is_never_timed_on_other_kernels(engine: str) -> None:
    operator = GraphModel(
        outputs=4, parameters=(("w", (4, 60), "weight", True, 60),), normalises=False,
        graph="0" * 64,
    )  # fmt: skip
    node = Node(name="model", operator=operator, inputs=(INPUT,))
    plan = Plan(name="opaque", input_shape=(6,), nodes=(node,))
    with pytest.raises(EngineError, match="this device has no graph of 'opaque'"):
        calibrate(plan, [[6]], 4, rng=np.random.default_rng(0), choices=Choices(engine=engine))
