"""Why a device takes a level or declines: one sentence with the figures, for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_client.host import LinkReading, SpeedReading
from edge_client.runtime.setup import EngineSetup

MIB: Final = 2**20
MAX_REASON: Final = 240
NO_SAMPLES: Final = "declined: the device has no training samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelForecast:
    """What one level would take on this device.

    Attributes:
        keeps_all: whether the level keeps every weight, as stage 1 may ask at any level.
        setup: how its steps would be run.
        is_divided: whether a batch goes through in several micro-batches.
        peak_bytes: agent and trainer together, at their highest.
        training_s: of all steps of a round.
        transfer_s: of the values, down and up; 0 in a direction whose rate is unknown.
        round_s: start of the trainer, training and transfer.
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

    @property
    def fits(self) -> bool:
        """Whether the device can take the level."""
        return self.fits_memory and self.fits_deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a forecast is held against, read once for a decision.

    Attributes:
        memory_bytes: that agent and trainer may take together.
        base_bytes: what they take at every level: agent, trainer, samples.
    """

    memory_bytes: int
    memory_is_estimated: bool
    base_bytes: int
    deadline_s: float
    speed: SpeedReading
    link: LinkReading


def why_taken(rows: Sequence[LevelForecast], chosen: LevelForecast, means: Means) -> str:
    """The level, how it is trained, what that takes, and what stood against the next level."""
    notes = ", ".join(note for note in (_speed_note(means), _link_note(means)) if note)
    return (
        f"{chosen.level:g}: {_how(chosen)}, round {_seconds_up(chosen.round_s)} of "
        f"{_seconds_down(means.deadline_s)} s{f' ({notes})' if notes else ''}, "
        f"memory {_mib_up(chosen.peak_bytes)} of {_mib_up(means.memory_bytes)} MiB"
        f"{' (estimated)' if means.memory_is_estimated else ''}{_next_larger(rows, chosen)}"
    )


def why_declined(smallest: LevelForecast, means: Means) -> str:
    """What even the smallest level would take, and what there is."""
    needs = []
    if not smallest.fits_memory:
        label = ", estimated" if means.memory_is_estimated else ""
        needs.append(f"{_mib_up(smallest.peak_bytes)} MiB (has {means.memory_bytes // MIB}{label})")
    if not smallest.fits_deadline:
        notes = "".join(f", {note}" for note in (_speed_note(means), _link_note(means)) if note)
        needs.append(
            f"{_seconds_up(smallest.round_s)} s (has {_seconds_down(means.deadline_s)}{notes})"
        )
    divided = f" in {_parts(smallest)}" if smallest.is_divided else ""
    what = "the dense model" if smallest.keeps_all else f"{smallest.level:g}"
    return f"declined: {what}{divided} needs {' and '.join(needs)}"


def _how(row: LevelForecast) -> str:
    threads = f", {row.setup.threads} threads" if row.setup.threads > 1 else ""
    parts = f", {_parts(row)}" if row.is_divided else ""
    weights = "all weights, " if row.keeps_all and row.level < 1 else ""
    return f"{weights}{row.setup.engine}{threads}{parts}"


def _parts(row: LevelForecast) -> str:
    return f"micro-batches of {row.setup.micro_batch}"


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


def _speed_note(means: Means) -> str:
    return "" if means.speed.basis == "measured" else f"{means.speed.basis} speed"


def _link_note(means: Means) -> str:
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
