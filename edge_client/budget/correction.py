"""What tasks really took, against what was foretold: it corrects the next forecast.

A board that throttles, or shares its cores, trains slower than its calibration says. An update
knows how long its training took and what memory its trainer had at its highest.

Training time: the longer of the last task and the median of the last `WINDOW` ones, over what the
calibration foretold. A board that has become slow is believed at once, one that was fast once is
not. Memory: the largest ratio of the window, never below 1. Both are bounded. A calibration that is
made anew begins without a correction.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Final

from edge_client.kept import kept_document

VERSION: Final = 1
WINDOW: Final = 5
ENOUGH: Final = 3  # tasks, before a board is believed to be faster than was thought
FASTEST: Final = 0.5
SLOWEST: Final = 20.0
MOST_MEMORY: Final = 2.0
KILLED_FOR_MEMORY: Final = 1.1  # of the forecast: nobody knows what a trainer wanted when it died
LEAST_TRAINING_S: Final = 1.0  # foretold; what a shorter one takes beyond says nothing of a speed
TRAINER_START_S: Final = 2.0  # allowance for interpreter, numpy and samples from a slow card
AGENT_S: Final = 0.5  # for the agent's own work before and after the trainer's
MAX_START_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One task that has ended.

    Attributes:
        time_ratio: seconds of training over those that the calibration foretold; None of a task
            that is too short to tell, or where the clock says nothing, as on an emulated board.
        memory_ratio: the trainer's highest memory over the forecast.
        start_s: of the trainer's seconds, those that were no training; of a short task, all beyond
            the training that was foretold. None where the clock says nothing.
    """

    time_ratio: float | None = None
    memory_ratio: float = 1.0
    start_s: float | None = None

    def __post_init__(self) -> None:
        for value in (self.time_ratio, self.memory_ratio, self.start_s):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"a measurement of {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What the latest tasks say of forecasts from one calibration.

    Attributes:
        calibration: its digest.
        observations: the latest last, at most `WINDOW`.
    """

    calibration: str = ""
    observations: tuple[Observation, ...] = ()

    @property
    def time_factor(self) -> float:
        """Training takes so many times what the calibration foretells; `FASTEST` to `SLOWEST`."""
        ratios = [one.time_ratio for one in self.observations if one.time_ratio is not None]
        if not ratios:
            return 1.0
        factor = max(ratios[-1], _median(ratios))
        least = FASTEST if len(ratios) >= ENOUGH else 1.0
        return min(max(factor, least), SLOWEST)

    @property
    def memory_factor(self) -> float:
        """The trainer takes so many times the forecast; 1 to `MOST_MEMORY`."""
        return min(max([1.0, *(one.memory_ratio for one in self.observations)]), MOST_MEMORY)

    @property
    def start_s(self) -> float:
        """Seconds of a round beside its training: the longest start of a trainer, and the agent.

        Before `ENOUGH` are known, at least an allowance.
        """
        seen = [one.start_s for one in self.observations if one.start_s is not None]
        least = TRAINER_START_S if len(seen) < ENOUGH else 0.0
        return min(max([least, *(one + AGENT_S for one in seen)]), MAX_START_S)

    def after(self, observation: Observation) -> Correction:
        """With one more task."""
        latest = (*self.observations, observation)[-WINDOW:]
        return Correction(calibration=self.calibration, observations=latest)

    def killed_for_memory(self) -> Correction:
        """A trainer was killed that the forecast gave enough: the next one is given more."""
        return self.after(Observation(memory_ratio=self.memory_factor * KILLED_FOR_MEMORY))

    def to_json(self) -> str:
        """A text for the device's store."""
        return json.dumps({"version": VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Correction:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else; begin afresh.
        """
        with kept_document(text, "not a correction, begin afresh", VERSION) as document:
            return cls(
                calibration=str(document["calibration"]),
                observations=tuple(map(_read_observation, document["observations"]))[-WINDOW:],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What was foretold of a task, without any correction.

    Attributes:
        training_s: of all its steps.
        trainer_bytes: of its trainer, at its highest.
    """

    training_s: float
    trainer_bytes: int


def observe(
    foretold: Foretold,
    *,
    training_s: float | None,
    trainer_s: float | None,
    peak_bytes: int,
) -> Observation:
    """What a task that has ended tells.

    Args:
        foretold: of it.
        training_s: of its training; None where the clock says nothing of the board.
        trainer_s: from the start of its process to the end; None likewise.
        peak_bytes: its highest memory; 0 is unknown.
    """
    ratio = start_s = None
    if training_s is not None and trainer_s is not None:
        long_enough = foretold.training_s >= LEAST_TRAINING_S
        ratio = training_s / foretold.training_s if long_enough else None
        start_s = max(0.0, trainer_s - (training_s if long_enough else foretold.training_s))
    memory = peak_bytes / foretold.trainer_bytes if foretold.trainer_bytes > 0 else 1.0
    return Observation(time_ratio=ratio, memory_ratio=memory, start_s=start_s)


def too_late(foretold: Foretold, start_s: float, limit_s: float) -> Observation:
    """A trainer was ended at its deadline: its training took the rest of the time, or more."""
    if foretold.training_s < LEAST_TRAINING_S:
        return Observation(start_s=limit_s)
    return Observation(time_ratio=max(limit_s - start_s, foretold.training_s) / foretold.training_s)


def _median(values: list[float]) -> float:
    """Of at least one; the module `statistics` would take a megabyte of the agent."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _read_observation(document: dict[str, float | None]) -> Observation:
    ratio, start_s, memory = (document[key] for key in ("time_ratio", "start_s", "memory_ratio"))
    return Observation(
        time_ratio=None if ratio is None else float(ratio),
        memory_ratio=float(memory if memory is not None else 1.0),
        start_s=None if start_s is None else float(start_s),
    )
