"""Which level is taken: the largest that fits."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from budget_world import (
    CALIBRATION,
    DIVISIBLE,
    LEVELS,
    MIB,
    PLAN,
    FakeHost,
    calibration,
    choose,
    deadlines,
    kept_at,
    memories,
    offer,
    peak_bytes,
    rates,
    round_s,
)
from hypothesis import given
from hypothesis import strategies as st

from edge_client.budget.correction import TRAINER_START_S
from edge_client.budget.decide import Decision
from edge_client.calibration import Calibration, LayerTiming
from edge_client.config import BudgetConfig
from edge_client.host import EmulatedHost, RealHost
from edge_client.probe.memory import MemoryReading
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.footprint import SampleCounts
from fedsparse.boards import load_board


def test_enough_of_everything_takes_the_largest_level() -> None:
    decision = choose(FakeHost())
    assert decision.level == 0.2
    assert decision.setups == dict.fromkeys(LEVELS, EngineSetup(micro_batch=32))
    assert [row.level for row in decision.rows] == list(LEVELS)
    assert all(row.fits for row in decision.rows)


def test_the_forecast_is_the_sum_of_its_parts() -> None:
    decision = choose(FakeHost(up=1000.0, down=4000.0))
    row = decision.chosen
    assert row is not None
    sent = 4 * (kept_at(0.2) + PLAN.num_dense)
    assert row.peak_bytes == peak_bytes(0.2)
    assert row.training_s == pytest.approx(10 * 1000 * kept_at(0.2) * 32 / 1e9)
    assert row.transfer_s == pytest.approx(sent / 1000 + sent / 4000)
    assert row.round_s == pytest.approx(TRAINER_START_S + row.training_s + row.transfer_s)
    assert decision.means.memory_bytes == 500 * MIB


@pytest.mark.parametrize(
    ("down", "up", "down_bytes", "up_bytes"),
    [("f16", "i8", 2, 1), ("i8", "f32", 1, 4), ("f32", "", 4, 0), ("f8-of-tomorrow", "f16", 4, 2)],
)
def test_a_transfer_takes_what_the_values_take_as_they_travel(
    down: str, up: str, down_bytes: int, up_bytes: int
) -> None:
    asked = replace(offer(), down_codec=down, up_codec=up)
    row = choose(FakeHost(up=1000.0, down=4000.0), offer=asked).rows[0]
    down_s = (down_bytes * kept_at(0.2) + 4 * PLAN.num_dense) / 4000
    up_s = (up_bytes * kept_at(0.2) + 4 * PLAN.num_dense) / 1000 if up else 0.0
    assert row.transfer_s == pytest.approx(down_s + up_s)


@pytest.mark.parametrize(("examples", "epochs", "steps"), [(1, 1, 1), (32, 3, 3), (33, 3, 6)])
def test_a_started_batch_is_a_whole_step(examples: int, epochs: int, steps: int) -> None:
    samples = SampleCounts(trained=examples)
    decision = choose(FakeHost(), samples=samples, offer=replace(offer(), epochs=epochs))
    assert decision.chosen is not None
    work = 1000 * kept_at(0.2) * 32
    assert decision.chosen.training_s == pytest.approx(steps * work / 1e9)


@pytest.mark.parametrize(("most", "steps"), [(1, 1), (19, 19), (21, 20)])
def test_no_more_steps_are_forecast_than_the_offer_asks_for(most: int, steps: int) -> None:
    decision = choose(FakeHost(), offer=replace(offer(), epochs=2, steps=most))
    assert decision.rows[0].training_s == pytest.approx(steps * 1000 * kept_at(0.2) * 32 / 1e9)


def test_more_samples_need_more_memory() -> None:
    """Those held out, too."""
    counts = (SampleCounts(trained=100), SampleCounts(trained=600, held_out=500))
    few, many = (choose(FakeHost(), samples=samples).rows[0] for samples in counts)
    assert many.peak_bytes - few.peak_bytes == 1000 * (6 * 20 * 4 + 8 + 8)


def test_masks_that_are_to_move_need_more_memory() -> None:
    still, moving = (
        choose(FakeHost(), offer=replace(offer(), evolve=evolve)).rows[0].peak_bytes
        for evolve in (False, True)
    )
    assert moving > still + PLAN.num_prunable


def test_masks_that_are_to_move_take_time_in_every_epoch() -> None:
    still, moving = (
        choose(
            FakeHost(),
            offer=replace(offer(), evolve=evolve, epochs=3),
            calibration=calibration(evolve_s=0.5),
        ).rows[0]
        for evolve in (False, True)
    )
    assert moving.training_s == pytest.approx(still.training_s + 3 * 0.5)
    assert moving.foretold.training_s == moving.training_s


def test_a_longer_deadline_allows_a_larger_level() -> None:
    chosen = [choose(FakeHost(rate=1e8), round_s(level, 1e8)).level for level in LEVELS]
    assert chosen == list(LEVELS)


def test_a_slower_board_takes_a_smaller_level() -> None:
    deadline = round_s(0.2, 4e8)
    rates = (4e8, 2.1e8, 1.1e8, 1e7)
    assert [choose(FakeHost(rate=rate), deadline).level for rate in rates] == [*LEVELS, None]


def test_less_memory_takes_a_smaller_level() -> None:
    peaks = [peak_bytes(level) for level in LEVELS]
    chosen = [choose(FakeHost(available_mib=2 * peak / MIB + 0.01)).level for peak in peaks]
    assert chosen == list(LEVELS)


def test_two_boards_of_unequal_means_choose_differently() -> None:
    real = RealHost(
        memory=lambda: MemoryReading(
            total_bytes=2**36, available_bytes=2**36, source="system", basis="measured"
        )
    )
    boards = ("raspberry-pi-5-8gb", "raspberry-pi-zero-2w")
    fast, slow = (EmulatedHost(load_board(name), real) for name in boards)
    speed = fast.speed(CALIBRATION).at(0.2)
    deadline = round_s(0.2, speed) + 0.5  # transfer over its port takes far less
    assert choose(fast, deadline).level == 0.2
    assert choose(slow, deadline).level != 0.2
    assert "estimated speed" in choose(slow, deadline).reason


def test_the_cap_in_mib_counts_beside_the_share() -> None:
    cap = BudgetConfig(memory_fraction=0.5, memory_mib=(peak_bytes(0.1) + 1) / MIB)
    assert choose(FakeHost(), budget=cap).level == 0.1
    loose = BudgetConfig(memory_fraction=0.5, memory_mib=9000)
    assert choose(FakeHost(), budget=loose).means.memory_bytes == 500 * MIB


def test_an_exact_fit_fits() -> None:
    decision = choose(FakeHost(rate=1e8), 1000)
    row = decision.rows[0]
    exact = BudgetConfig(memory_fraction=1.0, memory_mib=row.peak_bytes / MIB)
    assert choose(FakeHost(rate=1e8), row.round_s, budget=exact).level == 0.2
    assert choose(FakeHost(rate=1e8), row.round_s - 1e-6, budget=exact).level == 0.1


def test_a_level_that_fits_only_one_of_both_is_not_taken() -> None:
    memory = BudgetConfig(memory_fraction=1.0, memory_mib=peak_bytes(0.1) / MIB + 0.01)
    decision = choose(FakeHost(rate=1e8), round_s(0.05, 1e8), budget=memory)
    assert decision.level == 0.05
    assert [(row.fits_memory, row.fits_deadline) for row in decision.rows] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_a_batch_is_divided_as_little_as_memory_asks_for() -> None:
    for level, micro_batch in itertools.product(LEVELS, (32, 16, 8, 4)):
        exact = BudgetConfig(memory_fraction=1.0, memory_mib=peak_bytes(level, micro_batch) / MIB)
        decision = choose(FakeHost(), calibration=DIVISIBLE, budget=exact)
        row = next(row for row in decision.rows if row.level == level)
        assert row.setup.micro_batch == micro_batch
        assert row.peak_bytes == peak_bytes(level, micro_batch)
        assert row.fits_memory


def test_a_divided_batch_takes_the_longer_that_was_measured() -> None:
    tight = BudgetConfig(memory_fraction=1.0, memory_mib=peak_bytes(0.2, 8) / MIB)
    whole = choose(FakeHost(), calibration=DIVISIBLE).rows[0]
    divided = choose(FakeHost(), calibration=DIVISIBLE, budget=tight).rows[0]
    assert divided.training_s == pytest.approx(1.5 * whole.training_s)


def test_layers_that_keep_much_are_trained_with_dense_kernels() -> None:
    layer = LayerTiming(kept=offer().kept[1][1], sparse_s=1.0, dense_s=1.0)
    layers = {"head.weight": layer}
    setups = choose(FakeHost(), calibration=calibration(layers=layers)).setups
    assert [setups[level].dense_layers for level in LEVELS] == [("head.weight",), (), ()]


def order(decision: Decision) -> float:
    return decision.level or 0.0


@st.composite
def divisible(draw: st.DrawFn) -> Calibration:
    """Calibrations in which smaller micro-batches take as long, or longer."""
    times = sorted(draw(st.lists(st.floats(1e-4, 1), min_size=1, max_size=6)))
    return calibration(step_s={32 >> i: step_s for i, step_s in enumerate(times)})


@given(memory=memories, more=st.floats(1, 10), rate=rates, deadline=deadlines, timed=divisible())
def test_more_memory_never_takes_a_smaller_level_or_micro_batch(
    memory: float, more: float, rate: float, deadline: float, timed: Calibration
) -> None:
    less, greater = (
        choose(FakeHost(available_mib=size, rate=rate), deadline, calibration=timed)
        for size in (memory, memory * more)
    )
    assert order(greater) >= order(less)
    for before, after in zip(less.rows, greater.rows, strict=True):
        assert after.setup.micro_batch >= before.setup.micro_batch
        assert after.round_s <= before.round_s
        assert after.fits_memory >= before.fits_memory


@given(memory=memories, timed=divisible())
def test_a_batch_is_never_divided_further_than_it_must_be(
    memory: float, timed: Calibration
) -> None:
    decision = choose(FakeHost(available_mib=memory), calibration=timed)
    for row in decision.rows:
        larger = [size for size in timed.levels[row.level].step_s if size > row.setup.micro_batch]
        assert all(peak_bytes(row.level, size) > memory / 2 * MIB for size in larger)
        if row.fits_memory:
            assert row.peak_bytes <= memory / 2 * MIB


@given(memory=memories, rate=rates, deadline=deadlines, more=st.floats(1, 10))
def test_more_time_never_takes_a_smaller_level(
    memory: float, rate: float, deadline: float, more: float
) -> None:
    host = FakeHost(available_mib=memory, rate=rate)
    assert order(choose(host, deadline * more)) >= order(choose(host, deadline))


@given(memory=memories, rate=rates, deadline=deadlines, faster=st.floats(1, 10))
def test_a_faster_board_never_takes_a_smaller_level(
    memory: float, rate: float, deadline: float, faster: float
) -> None:
    slow = FakeHost(available_mib=memory, rate=rate)
    fast = replace(slow, rate=rate * faster)
    assert order(choose(fast, deadline)) >= order(choose(slow, deadline))


@given(memory=memories, rate=rates, deadline=deadlines)
def test_the_level_taken_is_the_largest_that_fits(
    memory: float, rate: float, deadline: float
) -> None:
    decision = choose(FakeHost(available_mib=memory, rate=rate), deadline)
    fitting = [row.level for row in decision.rows if row.fits]
    assert decision.level == (max(fitting) if fitting else None)
    for larger, smaller in itertools.pairwise(decision.rows):
        assert smaller.peak_bytes <= larger.peak_bytes
        assert smaller.round_s <= larger.round_s
