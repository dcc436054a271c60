"""A scenario as it unfolds: what is due, given the time and what the aggregator tells. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tools.emulate.fleet_file import Fleet
from tools.emulate.scenario_file import Happening, Kind, Scenario, devices_of

# These are of the fleet, not of a device's task: they come when their round opens.
WITH_THE_ROUND: Final = (Kind.JOIN, Kind.LEAVE)


class Progress(str, Enum):
    """How far one of them is."""

    WAITING = "waiting"  # for its round
    SCHEDULED = "scheduled"
    ON = "on"
    OVER = "over"


@dataclass(slots=True, kw_only=True)
class Occurrence:
    """One happening to one device.

    Attributes:
        due_s: when it begins, in board seconds since the start of the job.
        ends_s: when it is over; None = never, or not known yet.
        refusal: why it could not be done.
    """

    device: str
    happening: Happening
    progress: Progress = Progress.WAITING
    due_s: float | None = None
    ends_s: float | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be done now: something begins, or is over."""

    device: str
    happening: Happening
    begins: bool

    @property
    def kind(self) -> Kind:
        """Of what."""
        return self.happening.sort


class Script:
    """What happens in a run.

    Args:
        scenario: None = nothing.
        fleet: the devices.
    """

    def __init__(self, scenario: Scenario | None, fleet: Fleet) -> None:
        events = scenario.events if scenario else ()
        self.occurrences = [
            Occurrence(device=device, happening=happening)
            for happening in events
            for device in devices_of(happening, fleet)
        ]

    def observe(self, event: Mapping[str, Any], now_s: float) -> None:
        """Take note of what the aggregator wrote.

        Args:
            event: of its diary.
            now_s: board seconds since the start of the job.
        """
        for one in self.occurrences:
            if one.progress is Progress.WAITING and (delay_s := _delay_s(one, event)) is not None:
                one.progress, one.due_s = Progress.SCHEDULED, now_s + delay_s

    def due(self, now_s: float) -> Iterator[Act]:
        """What is to be done at this moment, each once; ends before beginnings."""
        for one in self.occurrences:
            if one.progress is Progress.ON and one.ends_s is not None and one.ends_s <= now_s:
                one.progress = Progress.OVER
                yield Act(device=one.device, happening=one.happening, begins=False)
        for one in self.occurrences:
            if one.progress is Progress.SCHEDULED and one.due_s is not None and one.due_s <= now_s:
                lasts_s = one.happening.lasts_s
                one.progress = Progress.ON
                one.ends_s = None if lasts_s is None else now_s + lasts_s
                yield Act(device=one.device, happening=one.happening, begins=True)

    @property
    def is_busy(self) -> bool:
        """Whether something is due at a time that is known, or is not over yet."""
        return any(
            one.progress is Progress.SCHEDULED
            or (one.progress is Progress.ON and one.ends_s is not None)
            for one in self.occurrences
        )

    def give_up(self, act: Act, reason: str) -> None:
        """It could not be done: it is over."""
        for one in self.occurrences:
            if one.device == act.device and one.happening is act.happening:
                one.progress, one.refusal = Progress.OVER, reason

    def missed(self) -> list[Occurrence]:
        """What never began (its round did not come, or the device had no task), or failed."""
        waiting = (Progress.WAITING, Progress.SCHEDULED)
        return [one for one in self.occurrences if one.progress in waiting or one.refusal]


def _delay_s(one: Occurrence, event: Mapping[str, Any]) -> float | None:
    """How long after `event` an occurrence begins; None where the event does not set it off."""
    happening = one.happening
    if happening.at_s is not None:
        return happening.at_s if event["event"] == "job_started" else None
    if event.get("round") != happening.round:
        return None
    if happening.sort in WITH_THE_ROUND:
        return happening.after_s if event["event"] == "round_opened" else None
    has_task = event["event"] == "task_sent" and event["device"] == one.device
    return happening.after_s if has_task else None
