"""A small plan, an offer of it, and devices of which every figure is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from device_readings import heat, power
from hypothesis import strategies as st

from edge_client.budget.correction import TRAINER_START_S
from edge_client.budget.decide import Decision, decide
from edge_client.calibration import Calibration, LevelTiming
from edge_client.config import BudgetConfig
from edge_client.host import EmulatedHost, LinkReading, SpeedReading
from edge_client.probe.heat import HeatReading
from edge_client.probe.memory import MemoryReading
from edge_client.probe.power import PowerReading
from edge_client.runtime.cost import Cost
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.footprint import SampleCounts, training_bytes
from fedsparse.plan import Conv, Flatten, Linear, Node, Plan, Relu
from fedsparse.wire.messages import Offer, Stage

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


memories = st.floats(20, 4000)
rates = st.floats(1e5, 1e12)
deadlines = st.floats(0.1, 1e6)
