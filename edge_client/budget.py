"""From a device's means to a density level: the largest whose memory and round time fit.

Predicted peak = agent + trainer before it holds anything + its samples + the engine's own cost.
Predicted round = start of the trainer + steps x work of a step / speed + transfer of the values,
where the link is known; masks, sent only when they change, are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edge_client.calibration import Calibration
from edge_client.config import BudgetConfig
from edge_client.host import Host, LinkReading, SpeedReading
from edge_client.runtime.cost import Cost, sparse_cost
from fedsparse.plan import Plan
from fedsparse.wire.messages import Offer

MIB: Final = 2**20
BYTES_PER_VALUE: Final = 4
LABEL_BYTES: Final = 8
ENGINE: Final = "sparse"
TRAINER_START_S: Final = 2.0  # allowance: interpreter, numpy and samples from a slow card
MAX_REASON: Final = 200

CostFunction = Callable[[Plan, Sequence[int], int], Cost]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelForecast:
    """What one level would take on this device.

    Attributes:
        peak_bytes: agent and trainer together, at their highest.
        training_s: of all steps of a round.
        transfer_s: of the values, down and up; 0 in a direction whose rate is unknown.
        round_s: start of the trainer, training and transfer.
    """

    level: float
    peak_bytes: int
    training_s: float
    transfer_s: float
    round_s: float
    fits_memory: bool
    fits_deadline: bool

    @property
    def fits(self) -> bool:
        """Whether the device can take the level."""
        return self.fits_memory and self.fits_deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The level that a device takes in a round, and the figures behind it.

    Attributes:
        level: None declines.
        engine: which engine the forecasts are of.
        rows: one forecast for each level offered, largest first.
        memory_budget_bytes, deadline_s: what the forecasts were held against.
        reason: one ASCII sentence of at most 200 characters.
    """

    level: float | None
    engine: str
    rows: tuple[LevelForecast, ...]
    memory_budget_bytes: int
    deadline_s: float
    reason: str

    @property
    def chosen(self) -> LevelForecast | None:
        """The forecast of the level taken; None where the offer is declined."""
        return next((row for row in self.rows if row.level == self.level), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """What a forecast is held against, read once for a decision."""

    memory_bytes: int
    memory_is_estimated: bool
    base_bytes: int
    deadline_s: float
    speed: SpeedReading
    link: LinkReading


def decide(
    offer: Offer,
    plan: Plan,
    num_examples: int,
    host: Host,
    calibration: Calibration,
    budget: BudgetConfig,
    agent_bytes: int,
    *,
    cost: CostFunction = sparse_cost,
) -> Decision:
    """Take the largest level of an offer that fits memory and deadline, or decline.

    Args:
        offer: the round, with the kept weights of each level.
        plan: the offer's plan.
        num_examples: samples that one epoch trains on.
        host: where memory, speed and link are read.
        calibration: of this plan on this device.
        budget: the share of the memory that training may use.
        agent_bytes: resident memory of the agent itself.
        cost: peak memory and work of a step, from plan, kept counts and batch size.

    Raises:
        EngineError: the kept counts do not fit the plan, or no engine runs it.
    """
    samples_bytes = num_examples * (math.prod(plan.input_shape) * BYTES_PER_VALUE + LABEL_BYTES)
    base_bytes = agent_bytes + calibration.baseline_bytes + samples_bytes
    means = _read_means(host, calibration, budget, base_bytes, offer.seconds_left)
    steps = math.ceil(num_examples / offer.batch_size) * offer.epochs
    rows = tuple(
        _forecast(
            level, cost(plan, kept, offer.batch_size), sum(kept) + plan.num_dense, steps, means
        )
        for level, kept in zip(offer.levels, offer.kept, strict=True)
    )
    chosen = next((row for row in rows if row.fits), None) if num_examples > 0 else None
    if num_examples < 1:
        reason = "declined: the device has no training samples"
    elif chosen is None:
        reason = _declined(rows[-1], means)
    else:
        reason = _taken(rows, chosen, means)
    return Decision(
        level=chosen.level if chosen else None,
        engine=ENGINE,
        rows=tuple(rows),
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
) -> _Means:
    memory = host.memory()
    share = int(budget.memory_fraction * memory.available_bytes)
    cap = share if budget.memory_mib is None else int(budget.memory_mib * MIB)
    return _Means(
        memory_bytes=min(share, cap),
        memory_is_estimated=memory.basis == "estimated" and share <= cap,
        base_bytes=base_bytes,
        deadline_s=deadline_s,
        speed=host.speed(calibration),
        link=host.link(),
    )


def _forecast(level: float, cost: Cost, values: int, steps: int, means: _Means) -> LevelForecast:
    peak = means.base_bytes + cost.peak_bytes
    training_s = steps * cost.multiply_adds / means.speed.at(level)
    rates = (means.link.down_bytes_per_s, means.link.up_bytes_per_s)
    transfer_s = sum(values * BYTES_PER_VALUE / rate for rate in rates if rate is not None)
    round_s = TRAINER_START_S + training_s + transfer_s
    return LevelForecast(
        level=level,
        peak_bytes=peak,
        training_s=training_s,
        transfer_s=transfer_s,
        round_s=round_s,
        fits_memory=peak <= means.memory_bytes,
        fits_deadline=round_s <= means.deadline_s,
    )


def _taken(rows: Sequence[LevelForecast], chosen: LevelForecast, means: _Means) -> str:
    notes = ", ".join(note for note in (_speed_note(means), _link_note(means)) if note)
    return (
        f"{chosen.level:g}: round {_seconds_up(chosen.round_s)} of "
        f"{_seconds_down(means.deadline_s)} s{f' ({notes})' if notes else ''}, "
        f"memory {_mib_up(chosen.peak_bytes)} of {means.memory_bytes // MIB} MiB"
        f"{' (estimated)' if means.memory_is_estimated else ''}{_next_larger(rows, chosen)}"
    )


def _next_larger(rows: Sequence[LevelForecast], chosen: LevelForecast) -> str:
    index = rows.index(chosen)
    if index == 0:
        return ""
    larger, needs = rows[index - 1], []
    if not larger.fits_deadline:
        needs.append(f"{_seconds_up(larger.round_s)} s")
    if not larger.fits_memory:
        needs.append(f"{_mib_up(larger.peak_bytes)} MiB")
    return f"; {larger.level:g} would take {' and '.join(needs)}"


def _declined(smallest: LevelForecast, means: _Means) -> str:
    needs = []
    if not smallest.fits_memory:
        label = ", estimated" if means.memory_is_estimated else ""
        needs.append(f"{_mib_up(smallest.peak_bytes)} MiB (has {means.memory_bytes // MIB}{label})")
    if not smallest.fits_deadline:
        notes = "".join(f", {note}" for note in (_speed_note(means), _link_note(means)) if note)
        needs.append(
            f"{_seconds_up(smallest.round_s)} s (has {_seconds_down(means.deadline_s)}{notes})"
        )
    return f"declined: {smallest.level:g} needs {' and '.join(needs)}"


def _speed_note(means: _Means) -> str:
    return "" if means.speed.basis == "measured" else f"{means.speed.basis} speed"


def _link_note(means: _Means) -> str:
    missing = [
        name
        for name, rate in (("down", means.link.down_bytes_per_s), ("up", means.link.up_bytes_per_s))
        if rate is None
    ]
    if not missing:
        return "" if means.link.basis == "measured" else f"{means.link.basis} link"
    return "transfer not counted" if len(missing) == 2 else f"{missing[0]}load not counted"


def _mib_up(size: int) -> str:
    return f"{math.ceil(size / MIB)}"


def _seconds_up(seconds: float) -> str:
    """Rounded so that what does not fit never reads as if it did."""
    return f"{math.ceil(seconds * 10) / 10:.1f}" if seconds < 1e6 else f"{seconds:.1e}"


def _seconds_down(seconds: float) -> str:
    return f"{math.floor(seconds * 10) / 10:.1f}" if seconds < 1e6 else f"{seconds:.1e}"
