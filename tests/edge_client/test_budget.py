from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from device_readings import heat, power
from hypothesis import given
from hypothesis import strategies as st

from edge_client.budget import Decision, Experience, decide
from edge_client.calibration import Calibration, LayerTiming, LevelTiming
from edge_client.config import BudgetConfig
from edge_client.correction import AGENT_S, TRAINER_START_S, Correction, Observation
from edge_client.host import EmulatedHost, LinkReading, RealHost, SpeedReading
from edge_client.hysteresis import Hold, step_down
from edge_client.policy import Ruling, Verdict
from edge_client.probe.heat import HeatReading
from edge_client.probe.memory import MemoryReading
from edge_client.probe.power import PowerReading
from edge_client.reason import MAX_REASON
from edge_client.runtime.cost import Cost
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.footprint import SampleCounts, training_bytes
from fedsparse.boards import load_board
from fedsparse.plan import Conv, Flatten, Linear, Node, Plan, Relu
from fedsparse.wire.messages import Offer, Ready, Stage

MIB = 2**20
LEVELS = (0.2, 0.1, 0.05)
PLAN = Plan(
    name="small",
    input_shape=(6, 20),
    nodes=(
        Node(
            name="conv",
            operator=Conv(out_channels=50, kernel=(5,), stride=(1,), pads=((2, 2),)),
            inputs=("input",),
        ),
        Node(name="relu", operator=Relu(), inputs=("conv",)),
        Node(name="flat", operator=Flatten(), inputs=("relu",)),
        Node(name="head", operator=Linear(out_features=7), inputs=("flat",)),
    ),
)
EXAMPLES = 320  # ten steps of 32
SAMPLES_BYTES = EXAMPLES * (6 * 20 * 4 + 8 + 8)  # values, label, index


def linear_cost(plan: Plan, kept: Sequence[int], batch_size: int, setup: EngineSetup) -> Cost:
    """10 MiB of activations for a batch, 1 KiB and 1,000 multiply-adds a kept weight and sample."""
    total, share = sum(kept), setup.micro_batch / batch_size
    return Cost(
        peak_bytes=int(10 * MIB * share) + 1024 * total, multiply_adds=1000 * total * batch_size
    )


@dataclass(frozen=True)
class FakeHost:
    available_mib: float = 1000.0
    rate: float = 1e9
    up: float | None = None
    down: float | None = None
    basis: str = "measured"
    board: str = "fake"
    emulated: bool = True  # a profile's memory knows of no agent
    throttled: bool | None = None

    def memory(self) -> MemoryReading:
        size = int(self.available_mib * MIB)
        return MemoryReading(
            total_bytes=size, available_bytes=size, source="fake", basis=self.basis
        )

    def speed(self, calibration: Calibration) -> SpeedReading:
        rates = dict.fromkeys(calibration.levels, self.rate)
        return SpeedReading(multiply_adds_per_s=rates, basis=self.basis)

    def link(self) -> LinkReading:
        basis = "specified" if self.up or self.down else "unknown"
        return LinkReading(up_bytes_per_s=self.up, down_bytes_per_s=self.down, basis=basis)

    def heat(self) -> HeatReading:
        return heat(throttled=self.throttled)

    def power(self) -> PowerReading:
        return power()


def offer(seconds_left: float = 100.0, levels: tuple[float, ...] = LEVELS) -> Offer:
    kept = tuple(
        tuple(max(1, round(level * tensor.size)) for tensor in PLAN.prunable) for level in levels
    )
    return Offer(
        job="j",
        round_id=1,
        attempt=0,
        stage=Stage.TRAIN,
        plan_digest=PLAN.digest,
        levels=levels,
        mask_digests=("",) * len(levels),
        kept=kept,
        batch_size=32,
        epochs=1,
        seconds_left=seconds_left,
    )


def timing(**changes: Any) -> LevelTiming:  # noqa: ANN401
    """Only the whole batch was timed, and so it is never divided."""
    fields: dict[str, Any] = {
        "step_s": {32: 0.01},
        "multiply_adds": 10_000_000,
        "engine": "sparse",
        "threads": 1,
        "shared_work": 8_000_000,
        "layers": {},
    }
    return LevelTiming(**(fields | changes))


def calibration(levels: Sequence[float] = LEVELS, **changes: Any) -> Calibration:  # noqa: ANN401
    return Calibration(
        plan_digest=PLAN.digest,
        batch_size=32,
        levels=dict.fromkeys(levels, timing(**changes)),
        baseline_bytes=30 * MIB,
    )


CALIBRATION = calibration()
# Half a batch at a time takes as long, a quarter 1.5 times, an eighth four times as long.
DIVISIBLE = calibration(step_s={32: 0.01, 16: 0.01, 8: 0.015, 4: 0.04})


def choose(
    host: FakeHost | EmulatedHost,
    seconds_left: float = 100.0,
    *,
    budget: BudgetConfig | None = None,
    **changes: Any,  # noqa: ANN401
) -> Decision:
    arguments: dict[str, Any] = {
        "offer": offer(seconds_left),
        "plan": PLAN,
        "samples": SampleCounts(trained=EXAMPLES),
        "host": host,
        "calibration": CALIBRATION,
        "budget": budget or BudgetConfig(),
        "agent_bytes": 20 * MIB,
        "cost": linear_cost,
    }
    return decide(**(arguments | changes))


def kept_at(level: float) -> int:
    return sum(offer().kept[LEVELS.index(level)])


def peak_bytes(level: float, micro_batch: int = 32) -> int:
    """As `linear_cost` says: agent, trainer, samples, engine and what the task takes beside it."""
    kept = offer().kept[LEVELS.index(level)]
    setup = EngineSetup(micro_batch=micro_batch)
    engine = linear_cost(PLAN, kept, 32, setup).peak_bytes
    return (20 + 30) * MIB + SAMPLES_BYTES + training_bytes(PLAN, kept, 32, engine, evolves=False)


def mib_up(level: float) -> int:
    return math.ceil(peak_bytes(level) / MIB)


def round_s(level: float, rate: float = 1e9) -> float:
    return TRAINER_START_S + 10 * 1000 * kept_at(level) * 32 / rate


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


def test_a_device_too_small_declines_with_the_memory_it_would_need() -> None:
    decision = choose(FakeHost(available_mib=80))
    assert decision.level is None
    assert decision.chosen is None
    assert decision.reason == f"declined: 0.05 needs {mib_up(0.05)} MiB (has 40)"


def test_a_device_too_small_for_what_every_level_keeps_says_that_it_is_the_dense_model() -> None:
    whole = tuple(tensor.size for tensor in PLAN.prunable)
    dense = replace(offer(), kept=(whole,) * 3)
    reason = choose(FakeHost(available_mib=80), offer=dense).reason
    assert reason.startswith("declined: the dense model needs ")
    assert choose(FakeHost(), offer=dense).reason.startswith("0.2: all weights, sparse, ")
    assert choose(FakeHost()).reason.startswith("0.2: sparse, ")


def test_a_device_too_slow_declines_with_the_time_it_would_need() -> None:
    decision = choose(FakeHost(rate=1e6, basis="estimated"), 20)
    assert decision.reason == (
        f"declined: 0.05 needs {round_s(0.05, 1e6):.1f} s "
        "(has 20.0, estimated speed, transfer not counted)"
    )


def test_a_device_short_of_both_says_both() -> None:
    reason = choose(FakeHost(available_mib=80, rate=1e6, basis="estimated"), 20).reason
    assert f"needs {mib_up(0.05)} MiB (has 40, estimated) and " in reason
    assert " s (has 20.0, estimated speed" in reason


def test_a_need_never_reads_as_if_it_were_met() -> None:
    row = choose(FakeHost()).rows[-1]
    short = BudgetConfig(memory_fraction=1.0, memory_mib=(row.peak_bytes - 1) / MIB)
    reason = choose(FakeHost(), row.round_s - 1e-3, budget=short).reason
    assert reason == (
        f"declined: 0.05 needs {mib_up(0.05)} MiB (has {mib_up(0.05) - 1}) and "
        f"{row.round_s + 0.05:.1f} s (has {row.round_s - 0.05:.1f}, transfer not counted)"
    )


def tenths_up(seconds: float) -> str:
    return f"{math.ceil(seconds * 10) / 10:.1f} s"


def test_the_reason_says_what_stood_against_the_next_level() -> None:
    host = FakeHost(rate=1e8)
    short = round_s(0.1, 1e8) + 0.1
    tight = BudgetConfig(memory_fraction=1.0, memory_mib=peak_bytes(0.1) / MIB + 0.01)
    time = tenths_up(round_s(0.2, 1e8))
    assert choose(host, short).reason.endswith(f"; 0.2 would take {time}")
    assert choose(host, budget=tight).reason.endswith(f"; 0.2 would take {mib_up(0.2)} MiB")
    assert choose(host, short, budget=tight).reason.endswith(
        f"; 0.2 would take {time} and {mib_up(0.2)} MiB"
    )


def test_the_largest_level_needs_no_comparison() -> None:
    decision = choose(FakeHost(up=1e9, down=1e9))
    time = tenths_up(decision.rows[0].round_s)
    expected = (
        f"0.2: sparse, round {time[:-2]} of 100.0 s (specified link), "
        f"memory {mib_up(0.2)} of 500 MiB"
    )
    assert decision.reason == expected


@pytest.mark.parametrize(
    ("host", "note"),
    [
        (FakeHost(), "transfer not counted"),
        (FakeHost(up=1e6), "download not counted"),
        (FakeHost(down=1e6), "upload not counted"),
        (FakeHost(up=1e6, down=1e6), "specified link"),
    ],
)
def test_an_unknown_link_is_not_counted_and_said_so(host: FakeHost, note: str) -> None:
    decision = choose(host)
    assert note in decision.reason
    expected = 4 * (kept_at(0.2) + PLAN.num_dense) / 1e6 * ((host.up, host.down).count(1e6))
    assert decision.rows[0].transfer_s == pytest.approx(expected)


def test_estimates_are_labelled_and_measurements_are_not() -> None:
    assert "estimated" not in choose(FakeHost()).reason
    labelled = choose(FakeHost(basis="estimated")).reason
    assert "estimated speed" in labelled
    assert "MiB (estimated)" in labelled
    capped = choose(FakeHost(basis="estimated"), budget=BudgetConfig(memory_mib=400)).reason
    assert "of 400 MiB" in capped
    assert "MiB (estimated)" not in capped


def test_a_device_without_samples_declines() -> None:
    decision = choose(FakeHost(), samples=SampleCounts(trained=0))
    assert decision.level is None
    assert decision.reason == "declined: the device has no training samples"


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


def test_a_level_that_fits_not_even_in_the_smallest_parts_says_what_those_need() -> None:
    short = BudgetConfig(memory_fraction=1.0, memory_mib=(peak_bytes(0.05, 4) - 1) / MIB)
    decision = choose(FakeHost(), calibration=DIVISIBLE, budget=short)
    assert decision.level is None
    need = math.ceil(peak_bytes(0.05, 4) / MIB)
    assert decision.reason == (
        f"declined: 0.05 in micro-batches of 4 needs {need} MiB (has {need - 1})"
    )


def test_the_reason_says_how_a_level_is_trained() -> None:
    shared = calibration(step_s={32: 0.01, 16: 0.02}, threads=4)
    tight = BudgetConfig(memory_fraction=1.0, memory_mib=peak_bytes(0.2, 16) / MIB)
    assert ": sparse, round" in choose(FakeHost()).reason
    whole = choose(FakeHost(), calibration=shared).reason
    divided = choose(FakeHost(), calibration=shared, budget=tight).reason
    assert whole.startswith("0.2: sparse, 4 threads, round")
    assert divided.startswith("0.2: sparse, 4 threads, micro-batches of 16, round")


def test_layers_that_keep_much_are_trained_with_dense_kernels() -> None:
    layer = LayerTiming(kept=offer().kept[1][1], sparse_s=1.0, dense_s=1.0)
    layers = {"head.weight": layer}
    setups = choose(FakeHost(), calibration=calibration(layers=layers)).setups
    assert [setups[level].dense_layers for level in LEVELS] == [("head.weight",), (), ()]


memories = st.floats(20, 4000)
rates = st.floats(1e5, 1e12)
deadlines = st.floats(0.1, 1e6)


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


@given(
    memory=st.floats(1, 1e9),
    rate=st.floats(1e-3, 1e15),
    deadline=st.floats(1e-9, 1e300),
    link=st.sampled_from([None, 1e-3, 1e6]),
    basis=st.sampled_from(["measured", "estimated"]),
)
def test_every_decision_fits_on_the_wire(
    memory: float, rate: float, deadline: float, link: float | None, basis: str
) -> None:
    host = FakeHost(available_mib=memory, rate=rate, up=link, down=link, basis=basis)
    levels = (0.987654321, 0.123456789, 0.0000123456)
    timed = calibration(levels, threads=64, step_s={32: 0.01, 16: 0.02})
    decision = choose(host, offer=offer(deadline, levels), calibration=timed)
    assert decision.reason.isascii()
    assert len(decision.reason) <= MAX_REASON
    assert decision.reason[-1] not in " ,;("
    row = decision.chosen
    Ready(
        job="j",
        round_id=1,
        attempt=0,
        level=decision.level,
        num_examples=EXAMPLES,
        reason=decision.reason,
        predicted_peak_bytes=row.peak_bytes if row else 0,
        memory_budget_bytes=decision.means.memory_bytes,
        predicted_round_s=row.round_s if row else 0.0,
    )


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


# What the agent takes already


def test_on_a_machine_the_agent_is_no_part_of_what_is_still_available() -> None:
    """It is there already: the trainer alone must fit into the share of the rest."""
    trainer = peak_bytes(0.2) - 20 * MIB
    whole = BudgetConfig(memory_fraction=1.0)
    exact = FakeHost(available_mib=trainer / MIB, emulated=False)
    assert choose(exact, budget=whole).level == 0.2
    assert choose(replace(exact, emulated=True), budget=whole).level is None
    short = replace(exact, available_mib=trainer / MIB - 0.01)
    assert choose(short, budget=whole).level == 0.1


# Masks on their way


def test_a_mask_that_is_not_here_and_one_that_moves_are_sent_as_bits_at_most() -> None:
    digests = ("ab" * 32, "cd" * 32, "")
    mask_s = math.ceil(PLAN.num_prunable / 8) / 1000
    masked = replace(offer(), mask_digests=digests)
    rows = choose(FakeHost(down=1000.0), offer=masked).rows
    plain = choose(FakeHost(down=1000.0)).rows
    extra = [a.transfer_s - b.transfer_s for a, b in zip(rows, plain, strict=True)]
    assert extra == pytest.approx([mask_s, mask_s, 0.0])
    known = Experience(held_masks=("ab" * 32,))
    rows = choose(FakeHost(down=1000.0), offer=masked, experience=known).rows
    assert rows[0].transfer_s == pytest.approx(plain[0].transfer_s)
    moving = choose(FakeHost(up=1000.0), offer=replace(offer(), evolve=True)).rows[0]
    still = choose(FakeHost(up=1000.0)).rows[0]
    assert moving.transfer_s - still.transfer_s == pytest.approx(mask_s)


# What earlier tasks really took


def after(*observations: Observation) -> Experience:
    return Experience(correction=Correction(observations=observations))


def test_a_board_that_trains_slower_than_calibrated_is_forecast_to() -> None:
    slow = after(Observation(time_ratio=3.0, start_s=5.0))
    plain, corrected = choose(FakeHost()).rows[0], choose(FakeHost(), experience=slow).rows[0]
    assert corrected.training_s == pytest.approx(3 * plain.training_s)
    assert corrected.round_s == pytest.approx(5.0 + AGENT_S + 3 * plain.training_s)
    assert corrected.foretold == plain.foretold  # of which the next ratio is taken
    assert "(3 x calibrated, transfer not counted)" in choose(FakeHost(), experience=slow).reason


def test_a_slow_board_takes_a_smaller_level_though_its_calibration_was_fast() -> None:
    deadline = round_s(0.2, 1e8) + 0.01
    slow = after(Observation(time_ratio=1.5))
    assert choose(FakeHost(rate=1e8), deadline).level == 0.2
    assert choose(FakeHost(rate=1e8), deadline, experience=slow).level == 0.1


def test_a_trainer_that_took_more_than_was_forecast_is_given_more() -> None:
    more = after(Observation(memory_ratio=1.25))
    plain, corrected = choose(FakeHost()).rows[0], choose(FakeHost(), experience=more).rows[0]
    trainer = plain.peak_bytes - 20 * MIB
    assert corrected.peak_bytes == 20 * MIB + math.ceil(1.25 * trainer)
    assert "MiB (1.2 x forecast)" in choose(FakeHost(), experience=more).reason


def test_a_board_that_is_throttled_now_says_so() -> None:
    assert "throttled now" in choose(FakeHost(throttled=True)).reason
    for told in (False, None):
        assert "throttled" not in choose(FakeHost(throttled=told)).reason


# What was taken before


def held(level: float) -> Experience:
    first = choose(FakeHost()).hold
    assert first is not None
    return Experience(hold=replace(first, level=level, round_id=0))


def test_a_higher_level_waits_until_it_had_room_for_some_offers() -> None:
    known, levels = held(0.1), []
    for round_id in range(1, 5):
        decision = choose(FakeHost(), experience=known, offer=replace(offer(), round_id=round_id))
        levels.append(decision.level)
        known = replace(known, hold=decision.hold)
        if round_id == 1:
            assert decision.reason.endswith("; 0.2 would fit, and waits (1 of 3 offers)")
    assert levels == [0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize("scarce", ["memory", "time"])
def test_a_level_is_not_raised_to_what_only_just_fits(scarce: str) -> None:
    host, deadline = FakeHost(rate=1e8), round_s(0.2, 1e8) * 1.09
    if scarce == "memory":
        host, deadline = FakeHost(available_mib=2 * peak_bytes(0.2) / MIB * 1.09), 1000.0
    known = held(0.1)
    for round_id in range(1, 9):
        decision = choose(host, experience=known, offer=replace(offer(deadline), round_id=round_id))
        assert decision.level == 0.1
        known = replace(known, hold=decision.hold)
    assert decision.reason.endswith("; 0.2 would fit, and waits (not enough to spare)")
    assert choose(host, deadline).level == 0.2  # a device that held nothing takes it


def test_a_broken_promise_is_said_in_the_next_reason() -> None:
    before = held(0.2).hold
    assert before is not None
    lower = Experience(hold=step_down(before, 0.2, LEVELS, "killed for memory at 0.2 in round 3"))
    decision = choose(FakeHost(), experience=lower)
    assert decision.level == 0.1
    assert decision.reason.endswith("; before: killed for memory at 0.2 in round 3")
    declined = choose(FakeHost(available_mib=80), experience=lower)
    assert declined.reason.endswith("(has 40); before: killed for memory at 0.2 in round 3")


def test_what_a_policy_forbids_is_declined_and_forgets_nothing() -> None:
    because = Ruling(rule="hours", allows=False, because="it is 12:00, allowed 22:00-06:30")
    known = replace(held(0.1), verdict=Verdict(rulings=(because,)))
    decision = choose(FakeHost(), experience=known)
    assert decision.level is None
    assert decision.reason == "declined by policy: it is 12:00, allowed 22:00-06:30"
    assert decision.hold == known.hold
    assert decision.rows[0].fits


@given(
    memory=memories,
    rate=rates,
    deadline=deadlines,
    level=st.sampled_from(LEVELS),
    slower=st.floats(0, 100),
    larger=st.floats(0, 100),
    offers=st.integers(0, 5),
)
def test_whatever_is_remembered_a_level_that_does_not_fit_is_never_taken(
    memory: float,
    rate: float,
    deadline: float,
    level: float,
    slower: float,
    larger: float,
    offers: int,
) -> None:
    before = held(level).hold
    assert isinstance(before, Hold)
    known = Experience(
        hold=replace(before, rising=0.2, offers=offers),
        correction=Correction(observations=(Observation(time_ratio=slower, memory_ratio=larger),)),
    )
    decision = choose(FakeHost(available_mib=memory, rate=rate), deadline, experience=known)
    assert (decision.level is None) == (not any(row.fits for row in decision.rows))
    if decision.chosen is not None:
        assert decision.chosen.fits
        assert decision.chosen.peak_bytes <= memory / 2 * MIB
        assert decision.chosen.round_s <= deadline
