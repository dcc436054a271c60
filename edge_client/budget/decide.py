"""From a device's means to a density level: the largest whose memory and round time fit.

The forecasts are in edge_client/budget/forecast.py; what keeps a level from flapping in
edge_client/budget/hysteresis.py; what a user may forbid in edge_client/budget/policy.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_client.budget.correction import Correction
from edge_client.budget.forecast import CostFunction, LevelForecast, Levels, Means
from edge_client.budget.hysteresis import Hold, Room, settle
from edge_client.budget.policy import Verdict
from edge_client.budget.reason import NO_SAMPLES, why_declined, why_taken
from edge_client.calibration import Calibration
from edge_client.config import BudgetConfig
from edge_client.host import Host
from edge_client.probe.memory import MemoryReading
from edge_client.runtime.engine_cost import engine_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.footprint import SampleCounts
from fedsparse.plan import Plan
from fedsparse.wire.messages import Offer

MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What earlier offers and tasks left behind.

    Attributes:
        correction: of forecasts, by what tasks really took.
        hold: the level taken before; None at the beginning.
        held_masks: digests of the masks that are here.
        verdict: what the user's policy says now.
    """

    correction: Correction = field(default_factory=Correction)
    hold: Hold | None = None
    held_masks: Sequence[str] = ()
    verdict: Verdict = field(default_factory=Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The level that a device takes in a round, and the figures behind it.

    Attributes:
        level: None declines.
        rows: one forecast for each level offered, largest first.
        means: what the forecasts were held against.
        experience: what was known when it was taken.
        hold: what is to be remembered for the next offer.
        reason: one ASCII sentence of at most `MAX_REASON` characters.
    """

    level: float | None
    rows: tuple[LevelForecast, ...]
    means: Means
    experience: Experience
    hold: Hold | None
    reason: str

    @property
    def chosen(self) -> LevelForecast | None:
        """The forecast of the level taken; None where the offer is declined."""
        return self.row(self.level)

    @property
    def setups(self) -> dict[float, EngineSetup]:
        """Level -> how its steps are to be run; a task may be of a lower level than was taken."""
        return {row.level: row.setup for row in self.rows}

    def row(self, level: float | None) -> LevelForecast | None:
        """The forecast of a level on offer; None of another."""
        return next((row for row in self.rows if row.level == level), None)


def decide(
    offer: Offer,
    plan: Plan,
    samples: SampleCounts,
    host: Host,
    calibration: Calibration,
    budget: BudgetConfig,
    agent_bytes: int,
    *,
    experience: Experience | None = None,
    cost: CostFunction = engine_cost,
) -> Decision:
    """Take the largest level of an offer that fits memory and deadline, or decline.

    Args:
        offer: the round, with the kept weights of each level.
        plan: the offer's plan.
        samples: the device's own.
        host: where memory, speed, link and heat are read.
        calibration: of this plan on this device, at the levels on offer.
        budget: the share of the memory that training may use, and what a higher level needs.
        agent_bytes: resident memory of the agent itself.
        experience: what is known from before; nothing by default.
        cost: peak memory and work of a step, from plan, kept counts, batch size and setup.

    Raises:
        EngineError: the kept counts do not fit the plan, or no engine runs it.
    """
    known = experience or Experience()
    means = _read_means(host, calibration, budget, agent_bytes, offer.seconds_left, known)
    rows = Levels(
        offer=offer, plan=plan, samples=samples, calibration=calibration, means=means, cost=cost,
        held=frozenset(known.held_masks),
    ).forecast()  # fmt: skip
    if samples.trained < 1 or not known.verdict.allows:
        reason = NO_SAMPLES if samples.trained < 1 else known.verdict.reason
        return Decision(
            level=None, rows=rows, means=means, experience=known, hold=known.hold, reason=reason
        )
    settled = settle(
        [Room(level=row.level, fits=row.fits, spare=row.spare) for row in rows],
        known.hold,
        subject=_subject(offer, rows),
        round_id=offer.round_id,
        raise_after=budget.raise_after,
    )
    chosen = next((row for row in rows if row.level == settled.level), None)
    if chosen is None:
        reason = why_declined(rows[-1], means, settled.hold)
    else:
        reason = why_taken(rows, chosen, means, settled.hold, budget.raise_after)
    return Decision(
        level=settled.level,
        rows=rows,
        means=means,
        experience=known,
        hold=settled.hold,
        reason=reason,
    )


def trainer_share(host: Host, budget: BudgetConfig, agent_bytes: int) -> int:
    """Bytes that a trainer may take beside its agent at this moment."""
    return max(0, min(_shares(host, host.memory(), budget, agent_bytes)) - agent_bytes)


def _shares(
    host: Host, memory: MemoryReading, budget: BudgetConfig, agent_bytes: int
) -> tuple[int, int]:
    """What agent and trainer may take together: by the fraction, and by the cap."""
    # What the agent holds is taken already on a machine; a profile's figure knows of no agent.
    taken = 0 if host.emulated else agent_bytes
    share = taken + int(budget.memory_fraction * memory.available_bytes)
    return share, share if budget.memory_mib is None else int(budget.memory_mib * MIB)


def _subject(offer: Offer, rows: Sequence[LevelForecast]) -> str:
    """What a level is a level of: stage 1 may keep everything at each."""
    kept = "all" if rows[-1].keeps_all else "some"
    return f"{offer.job} {offer.plan_digest[:16]} keeps {kept}"


def _read_means(
    host: Host,
    calibration: Calibration,
    budget: BudgetConfig,
    agent_bytes: int,
    deadline_s: float,
    known: Experience,
) -> Means:
    memory = host.memory()
    share, cap = _shares(host, memory, budget, agent_bytes)
    return Means(
        memory_bytes=min(share, cap),
        available_bytes=memory.available_bytes,
        memory_source=memory.source,
        memory_is_estimated=memory.basis == "estimated" and share <= cap,
        agent_bytes=agent_bytes,
        deadline_s=deadline_s,
        headroom=budget.headroom,
        speed=host.speed(calibration),
        link=host.link(),
        correction=known.correction,
        throttled=host.heat().throttled,
    )
