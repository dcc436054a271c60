"""A speed that nobody measured follows from clock, vectors and memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_client.bench.case import kept_at
from edge_client.bench.work import step_work
from edge_client.runtime.cost import sparse_cost
from fedsparse.boards import Board, Compute, Figure, Memory, load_board
from fedsparse.boards.speed import BYTES_A_MULTIPLY_ADD, EFFICIENCY
from fedsparse.plan.zoo import PLANS


def figure(value: float, basis: str = "specified", date: str = "2026-01") -> Figure:
    return Figure(value=value, basis=basis, source="sheet", date=date)


CORE = Compute(
    clock_hz=figure(2e9, date="2026-03"),
    fma_lanes_per_cycle=figure(8),
    load_lanes_per_cycle=figure(4),
    pipeline="out-of-order",
)


def board(compute: Compute = CORE, memcpy: float | None = None) -> Board:
    memory = Memory(
        total_mib=figure(512), memcpy_bytes_per_s=None if memcpy is None else figure(memcpy)
    )
    return Board(name="mine", title="Mine", cpu="", cores=figure(1), memory=memory, compute=compute)


def speed(one: Board) -> Figure:
    assert one.speed is not None
    return one.speed


def test_an_estimate_is_clock_times_the_narrower_lanes_times_efficiency() -> None:
    assert speed(board()).value == pytest.approx(2e9 * 4 * EFFICIENCY["out-of-order"])
    narrow = replace(CORE, fma_lanes_per_cycle=figure(2))
    assert speed(board(narrow)).value == pytest.approx(2e9 * 2 * EFFICIENCY["out-of-order"])


def test_a_core_that_runs_in_order_is_taken_to_reach_less() -> None:
    in_order = speed(board(replace(CORE, pipeline="in-order"))).value
    assert in_order == pytest.approx(2e9 * 4 * EFFICIENCY["in-order"])
    assert in_order < speed(board()).value


def test_an_estimate_is_labelled_and_shows_its_arithmetic() -> None:
    estimate = speed(board())
    assert estimate.basis == "estimated"
    assert estimate.source == "clock x lanes x efficiency = 2 GHz x min(8, 4) x 0.4 (out-of-order)"
    assert estimate.date == "2026-03"


def test_slow_memory_bounds_the_estimate_and_fast_memory_does_not() -> None:
    slow = speed(board(memcpy=1e9))
    assert slow.value == pytest.approx(2e9 / BYTES_A_MULTIPLY_ADD)
    assert slow.source.startswith("bounded by memory: 2 x memcpy / bytes a multiply-add = 2 x 1 ")
    assert speed(board(memcpy=1e11)) == speed(board())


def test_a_figure_in_the_file_wins_over_the_estimate() -> None:
    measured = figure(1.5e9, basis="measured")
    assert board(replace(CORE, multiply_adds_per_s=measured)).speed == measured


@pytest.mark.parametrize(
    "missing", ["clock_hz", "fma_lanes_per_cycle", "load_lanes_per_cycle", "pipeline"]
)
def test_without_all_that_an_estimate_takes_the_speed_is_unknown(missing: str) -> None:
    lacking: Compute = replace(CORE, **{missing: None})  # type: ignore[arg-type]
    assert board(lacking).speed is None


def test_another_efficiency_changes_every_board_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("raspberry-pi-4b-1gb", "jetson-nano", "jetson-agx-orin-32gb")
    before = [speed(load_board(name)).value for name in names]
    monkeypatch.setattr("fedsparse.boards.speed.EFFICIENCY", {"out-of-order": 0.2})
    after = [speed(load_board(name)).value for name in names]
    assert after == pytest.approx([value / 2 for value in before])


def bytes_a_multiply_add(density: float) -> list[float]:
    """Of each model of the zoo, ascending."""
    found = []
    for make in PLANS.values():
        plan = make()
        kept = kept_at(plan, density)
        moved = sum(step_work(plan, kept, 32).moved_bytes)
        found.append(moved / sparse_cost(plan, kept, 32).multiply_adds)
    return sorted(found)


def test_the_bytes_of_a_multiply_add_are_the_most_of_any_model_of_the_zoo() -> None:
    found = bytes_a_multiply_add(0.05)
    assert 0.95 * BYTES_A_MULTIPLY_ADD < found[-1] <= BYTES_A_MULTIPLY_ADD
    assert bytes_a_multiply_add(0.2)[len(found) // 2 - 1] < BYTES_A_MULTIPLY_ADD / 3
