"""From a device's means to a density level: the largest whose memory and round time fit.

Predicted peak = agent + trainer before it holds anything + its samples + the engine's own cost and
what the task takes beside it. A level's micro-batch is the largest that fits in memory.
Predicted round = start of the trainer + steps x time of a step + transfer of the values, where the
link is known; masks, sent only when they change, are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edge_client.calibration import Calibration, LevelTiming, kept_by_name
from edge_client.config import BudgetConfig
from edge_client.host import Host
from edge_client.reason import (
    MAX_REASON,
    NO_SAMPLES,
    LevelForecast,
    Means,
    why_declined,
    why_taken,
)
from edge_client.runtime.cost import Cost
from edge_client.runtime.engine_cost import engine_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.footprint import SampleCounts, samples_bytes, training_bytes
from fedsparse.plan import Plan
from fedsparse.wire.messages import Offer

MIB: Final = 2**20
BYTES_PER_VALUE: Final = 4
TRAINER_START_S: Final = 2.0  # allowance: interpreter, numpy and samples from a slow card

CostFunction = Callable[[Plan, Sequence[int], int, EngineSetup], Cost]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The level that a device takes in a round, and the figures behind it.

    Attributes:
        level: None declines.
        rows: one forecast for each level offered, largest first.
        memory_budget_bytes, deadline_s: what the forecasts were held against.
        reason: one ASCII sentence of at most 240 characters.
    """

    level: float | None
    rows: tuple[LevelForecast, ...]
    memory_budget_bytes: int
    deadline_s: float
    reason: str

    @property
    def chosen(self) -> LevelForecast | None:
        """The forecast of the level taken; None where the offer is declined."""
        return next((row for row in self.rows if row.level == self.level), None)

    @property
    def setups(self) -> dict[float, EngineSetup]:
        """Level -> how its steps are to be run; a task may be of a lower level than was taken."""
        return {row.level: row.setup for row in self.rows}


def decide(
    offer: Offer,
    plan: Plan,
    samples: SampleCounts,
    host: Host,
    calibration: Calibration,
    budget: BudgetConfig,
    agent_bytes: int,
    *,
    cost: CostFunction = engine_cost,
) -> Decision:
    """Take the largest level of an offer that fits memory and deadline, or decline.

    Args:
        offer: the round, with the kept weights of each level.
        plan: the offer's plan.
        samples: the device's own.
        host: where memory, speed and link are read.
        calibration: of this plan on this device, at the levels on offer.
        budget: the share of the memory that training may use.
        agent_bytes: resident memory of the agent itself.
        cost: peak memory and work of a step, from plan, kept counts, batch size and setup.

    Raises:
        EngineError: the kept counts do not fit the plan, or no engine runs it.
    """
    base_bytes = agent_bytes + calibration.baseline_bytes + samples_bytes(plan, samples)
    means = _read_means(host, calibration, budget, base_bytes, offer.seconds_left)
    levels = _Levels(
        offer=offer, plan=plan, samples=samples, calibration=calibration, means=means, cost=cost
    )
    rows = tuple(
        levels.forecast(level, kept) for level, kept in zip(offer.levels, offer.kept, strict=True)
    )
    chosen = next((row for row in rows if row.fits), None) if samples.trained > 0 else None
    if samples.trained < 1:
        reason = NO_SAMPLES
    elif chosen is None:
        reason = why_declined(rows[-1], means)
    else:
        reason = why_taken(rows, chosen, means)
    return Decision(
        level=chosen.level if chosen else None,
        rows=rows,
        memory_budget_bytes=means.memory_bytes,
        deadline_s=offer.seconds_left,
        reason=reason[:MAX_REASON],
    )


def _read_means(
    host: Host,
    calibration: Calibration,
    budget: BudgetConfig,
    base_bytes: int,
    deadline_s: float,
) -> Means:
    memory = host.memory()
    share = int(budget.memory_fraction * memory.available_bytes)
    cap = share if budget.memory_mib is None else int(budget.memory_mib * MIB)
    return Means(
        memory_bytes=min(share, cap),
        memory_is_estimated=memory.basis == "estimated" and share <= cap,
        base_bytes=base_bytes,
        deadline_s=deadline_s,
        speed=host.speed(calibration),
        link=host.link(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Levels:
    """What the levels of an offer are forecast from."""

    offer: Offer
    plan: Plan
    samples: SampleCounts
    calibration: Calibration
    means: Means
    cost: CostFunction

    def forecast(self, level: float, kept: Sequence[int]) -> LevelForecast:
        """With the largest micro-batch that fits; with the smallest, where none does."""
        timing, means, batch_size = (
            self.calibration.levels[level],
            self.means,
            self.offer.batch_size,
        )
        whole = self._setup(timing, kept, batch_size)
        work = self.cost(self.plan, kept, batch_size, whole).multiply_adds
        for micro_batch in sorted(timing.step_s, reverse=True):
            setup = self._setup(timing, kept, micro_batch)
            peak = means.base_bytes + self._training_bytes(kept, setup)
            if peak <= means.memory_bytes:
                break
        steps = math.ceil(self.samples.trained / batch_size) * self.offer.epochs
        if self.offer.steps is not None:
            steps = min(steps, self.offer.steps)
        step_s = work / means.speed.at(level) * timing.slowdown(setup.micro_batch)
        transfer_s = self._transfer_s(sum(kept) + self.plan.num_dense)
        round_s = TRAINER_START_S + steps * step_s + transfer_s
        return LevelForecast(
            level=level,
            keeps_all=sum(kept) == self.plan.num_prunable,
            setup=setup,
            is_divided=setup.micro_batch < batch_size,
            peak_bytes=peak,
            training_s=steps * step_s,
            transfer_s=transfer_s,
            round_s=round_s,
            fits_memory=peak <= means.memory_bytes,
            fits_deadline=round_s <= means.deadline_s,
        )

    def _setup(self, timing: LevelTiming, kept: Sequence[int], micro_batch: int) -> EngineSetup:
        return timing.setup(kept_by_name(self.plan, kept), micro_batch)

    def _training_bytes(self, kept: Sequence[int], setup: EngineSetup) -> int:
        batch_size = self.offer.batch_size
        engine_bytes = self.cost(self.plan, kept, batch_size, setup).peak_bytes
        return training_bytes(
            self.plan, kept, batch_size, engine_bytes,
            evolves=self.offer.evolve, probes=self.offer.probe,
        )  # fmt: skip

    def _transfer_s(self, values: int) -> float:
        link = self.means.link
        rates = (link.down_bytes_per_s, link.up_bytes_per_s)
        return sum(values * BYTES_PER_VALUE / rate for rate in rates if rate is not None)
