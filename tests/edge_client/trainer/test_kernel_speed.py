"""The speed of the training kernels: work over wall time, in rounds over all cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edge_client.probe.speaking import listen
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from edge_client.trainer.kernel_speed import (
    BATCH,
    DENSITIES,
    MICRO_BATCH,
    MODELS,
    ROUNDS,
    WINDOW_S,
    Case,
    measure,
)
from fedsparse.plan.zoo import PLANS


class Clock:
    """Moves by `tick_s` with every look at it."""

    def __init__(self, tick_s: float) -> None:
        self.now_s = 0.0
        self.tick_s = tick_s

    def __call__(self) -> float:
        self.now_s += self.tick_s
        return self.now_s


def cases(clock: Callable[[], float]) -> list[Case]:
    return [Case(model, 0.1, clock) for model in MODELS]


def test_a_rate_is_the_work_of_all_steps_over_wall_time() -> None:
    clock = Clock(WINDOW_S / 4)
    case = Case("mnist", 0.2, clock)
    case.run(WINDOW_S)
    plan = PLANS["mnist"]()
    kept = [round(0.2 * tensor.size) for tensor in plan.prunable]
    setup = EngineSetup(micro_batch=MICRO_BATCH)
    work = sparse_cost(plan, kept, BATCH, setup=setup).multiply_adds
    row = case.row()
    assert row["seconds"] == pytest.approx(WINDOW_S)
    assert row["multiply_adds_per_s"] == pytest.approx(4 * work / WINDOW_S)
    assert (row["model"], row["density"]) == ("mnist", 0.2)


def test_a_case_that_stands_still_for_a_while_is_slow_and_not_fast_in_between() -> None:
    clock = Clock(WINDOW_S / 4)
    case = Case("mnist", 0.2, clock)
    case.run(WINDOW_S)
    fast = case.row()["multiply_adds_per_s"]
    clock.tick_s = 3 * WINDOW_S  # a quota is used up: the next look at the clock is late
    case.run(WINDOW_S)
    assert case.row()["multiply_adds_per_s"] == pytest.approx(fast * (5 / 4) / 4)  # type: ignore[operator]


def test_windows_go_round_all_cases() -> None:
    each_s = 1.25 * WINDOW_S
    rows = list(measure(cases(Clock(each_s)), 1e9, Clock(0.0)))
    assert [row["model"] for row in rows] == list(MODELS) * ROUNDS
    assert rows[-1]["seconds"] == pytest.approx(ROUNDS * each_s)


def test_no_window_is_begun_that_would_end_too_late() -> None:
    clock = Clock(1.0)  # a look before and one after: a window takes one second
    rows = list(measure(cases(Clock(WINDOW_S)), 7.5, clock))
    assert len(rows) == 3
    assert list(measure(cases(Clock(WINDOW_S)), 0.5, Clock(1.0))) == []


def test_the_real_kernels_are_measured_in_a_process_of_their_own() -> None:
    heard: list[dict[str, Any]] = []
    assert listen("edge_client.trainer.kernel_speed", 60.0, heard.append) == ""
    assert heard[0] == {"cases": len(MODELS) * len(DENSITIES)}
    rows = [line["row"] for line in heard[1:]]
    found = {(row["model"], row["density"]) for row in rows}
    assert found == {(model, density) for model in MODELS for density in DENSITIES}
    assert all(row["multiply_adds_per_s"] > 1e6 for row in rows)


def test_the_step_that_finds_other_caches_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    took_s: list[float] = []
    train_step = SparseEngine.train_step

    def step(engine: SparseEngine, *arguments: Any, **options: Any) -> float:  # noqa: ANN401
        took_s.append(WINDOW_S / 4 if took_s else 100 * WINDOW_S)
        return train_step(engine, *arguments, **options)

    monkeypatch.setattr(SparseEngine, "train_step", step)
    case = Case("mnist", 0.2, lambda: sum(took_s))
    case.run(WINDOW_S)
    assert len(took_s) == 1 + 4
    assert case.row()["seconds"] == pytest.approx(WINDOW_S)
