"""What each level of an offer would take on this device, and whether that is there.

Predicted peak = agent + trainer: before it holds anything + its samples + the engine's own cost and
what the task takes beside it, times what tasks have taken beyond their forecasts.
A level's micro-batch is the largest that fits in memory.
Predicted round = a trainer's start + training, as corrected by what tasks really took: steps x time
of a step, and one drop-and-grow an epoch where the mask moves
+ transfer of the values, and of a mask that is not here, where the link is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_client.budget.correction import Correction, Foretold
from edge_client.calibration import Calibration, LevelTiming, kept_by_name
from edge_client.host import LinkReading, SpeedReading
from edge_client.runtime.cost import Cost
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.footprint import SampleCounts, samples_bytes, training_bytes
from fedsparse.plan import Plan
from fedsparse.wire.codecs import DENSE_BYTES, F32, VALUE_BYTES
from fedsparse.wire.messages import Offer

CostFunction = Callable[[Plan, Sequence[int], int, EngineSetup], Cost]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelForecast:
    """What one level would take on this device.

    Attributes:
        keeps_all: whether the level keeps every weight, as stage 1 may ask at any level.
        setup: how its steps would be run.
        is_divided: whether a batch goes through in several micro-batches.
        peak_bytes: agent and trainer together, at their highest.
        training_s: of all steps of a round, corrected.
        transfer_s: down and up; 0 in a direction whose rate is unknown.
        round_s: start of the trainer, training and transfer.
        spare: whether it would fit with the headroom that a higher level needs, too.
        foretold: of the trainer, before any correction.
    """

    level: float
    keeps_all: bool
    setup: EngineSetup
    is_divided: bool
    peak_bytes: int
    training_s: float
    transfer_s: float
    round_s: float
    fits_memory: bool
    fits_deadline: bool
    spare: bool
    foretold: Foretold

    @property
    def fits(self) -> bool:
        """Whether the device can take the level."""
        return self.fits_memory and self.fits_deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What forecasts are held against, read once for a decision.

    Attributes:
        memory_bytes: that agent and trainer may take together.
        available_bytes, memory_source: what was available, and what sets it.
        memory_is_estimated: whether that comes from a figure which nobody measured.
        agent_bytes: that the agent takes already.
        headroom: share of memory and time that a higher level must leave.
        throttled: whether the processor is held back for heat or power now; None is unknown.
    """

    memory_bytes: int
    available_bytes: int
    memory_source: str
    memory_is_estimated: bool
    agent_bytes: int
    deadline_s: float
    headroom: float
    speed: SpeedReading
    link: LinkReading
    correction: Correction
    throttled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What the levels of an offer are forecast from.

    Attributes:
        held: digests of the masks that are here.
    """

    offer: Offer
    plan: Plan
    samples: SampleCounts
    calibration: Calibration
    means: Means
    cost: CostFunction
    held: frozenset[str] = frozenset()

    def forecast(self) -> tuple[LevelForecast, ...]:
        """One row a level, in the offer's order.

        Raises:
            EngineError: the kept counts do not fit the plan, or no engine runs it.
        """
        return tuple(
            self._row(level, kept, digest)
            for level, kept, digest in zip(
                self.offer.levels, self.offer.kept, self.offer.mask_digests, strict=True
            )
        )

    def _row(self, level: float, kept: Sequence[int], digest: str) -> LevelForecast:
        """With the largest micro-batch that fits; with the smallest, where none does."""
        means, timing = self.means, self.calibration.levels[level]
        work_s = self._steps() * self._step_s(level, kept)
        setup, trainer = self._setup_within(timing, kept, means.memory_bytes)
        factor = means.correction.time_factor
        transfer_s = self._transfer_s(sum(kept), digest)
        moves_s = self.offer.epochs * timing.evolve_s if self.offer.evolve else 0.0
        training_s = work_s * timing.slowdown(setup.micro_batch) + moves_s
        fixed_s = means.correction.start_s + transfer_s
        round_s = fixed_s + factor * training_s
        peak = self._peak(trainer)
        loose, less = self._setup_within(timing, kept, self._less(means.memory_bytes))
        loose_s = fixed_s + factor * (work_s * timing.slowdown(loose.micro_batch) + moves_s)
        return LevelForecast(
            level=level,
            keeps_all=sum(kept) == self.plan.num_prunable,
            setup=setup,
            is_divided=setup.micro_batch < self.offer.batch_size,
            peak_bytes=peak,
            training_s=factor * training_s,
            transfer_s=transfer_s,
            round_s=round_s,
            fits_memory=peak <= means.memory_bytes,
            fits_deadline=round_s <= means.deadline_s,
            spare=self._peak(less) <= self._less(means.memory_bytes)
            and loose_s <= self._less(means.deadline_s),
            foretold=Foretold(training_s=training_s, trainer_bytes=trainer),
        )

    def _setup_within(
        self, timing: LevelTiming, kept: Sequence[int], limit_bytes: float
    ) -> tuple[EngineSetup, int]:
        """The largest micro-batch whose peak is within a limit, and its trainer's memory."""
        for micro_batch in sorted(timing.step_s, reverse=True):
            setup = timing.setup(kept_by_name(self.plan, kept), micro_batch)
            trainer = self._trainer_bytes(kept, setup)
            if self._peak(trainer) <= limit_bytes:
                break
        return setup, trainer

    def _peak(self, trainer_bytes: int) -> int:
        means = self.means
        return means.agent_bytes + math.ceil(trainer_bytes * means.correction.memory_factor)

    def _less(self, value: float) -> float:
        return value / (1 + self.means.headroom)

    def _trainer_bytes(self, kept: Sequence[int], setup: EngineSetup) -> int:
        batch_size = self.offer.batch_size
        engine_bytes = self.cost(self.plan, kept, batch_size, setup).peak_bytes
        task_bytes = training_bytes(
            self.plan, kept, batch_size, engine_bytes,
            evolves=self.offer.evolve, probes=self.offer.probe,
        )  # fmt: skip
        return self.calibration.baseline_bytes + samples_bytes(self.plan, self.samples) + task_bytes

    def _steps(self) -> int:
        steps = math.ceil(self.samples.trained / self.offer.batch_size) * self.offer.epochs
        return steps if self.offer.steps is None else min(steps, self.offer.steps)

    def _step_s(self, level: float, kept: Sequence[int]) -> float:
        """Of the whole batch in one piece, as calibration has it."""
        batch_size = self.offer.batch_size
        whole = self.calibration.levels[level].setup(kept_by_name(self.plan, kept), batch_size)
        work = self.cost(self.plan, kept, batch_size, whole).multiply_adds
        return work / self.means.speed.at(level)

    def _transfer_s(self, kept: int, digest: str) -> float:
        link = self.means.link
        mask = math.ceil(self.plan.num_prunable / 8)  # at most: the shortest encoding is sent
        down = self._values_bytes(kept, self.offer.down_codec)
        down += mask if digest and digest not in self.held else 0
        up = self._values_bytes(kept, self.offer.up_codec)
        up += mask if self.offer.evolve and up else 0
        directions = ((down, link.down_bytes_per_s), (up, link.up_bytes_per_s))
        return sum(size / rate for size, rate in directions if rate is not None)

    def _values_bytes(self, kept: int, codec: str) -> int:
        """Of a codec that this device does not know, as if nothing were spared."""
        if not codec:
            return 0
        return VALUE_BYTES.get(codec, VALUE_BYTES[F32]) * kept + DENSE_BYTES * self.plan.num_dense
