"""`scenario.toml`: what happens to devices, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from fedsparse.config import load
from fedsparse.errors import ConfigError
from fedsparse.wire.messages import NAME
from tools.emulate.fleet_file import Fleet, matching
from tools.emulate.near import near

LEAST_FACTOR: Final = 0.05
NO_CLOCK: Final = (
    "the clock of a device cannot jump here: on Linux all processes share the clock on the wall "
    "(a time namespace moves only the others)"
)


class Kind(str, Enum):
    """What can happen."""

    JOIN = "join"
    LEAVE = "leave"
    REBOOT = "reboot"
    HOT = "hot"
    CUT = "cut"
    DISK_FULL = "disk-full"


# Board seconds that each lasts where the file does not say; None = to the end.
LASTS_S: Final[dict[Kind, float | None]] = {
    Kind.JOIN: None,
    Kind.LEAVE: None,
    Kind.REBOOT: 5.0,
    Kind.HOT: None,
    Kind.CUT: None,
    Kind.DISK_FULL: None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happens to devices, an `[[events]]` table; seconds are the boards'.

    Attributes:
        kind: `join` (it is not there before), `leave` (it is ended), `reboot` (SIGKILL, and
            started again after `for_s`), `hot` (as fast as `factor` times the board), `cut` (no
            link), `disk-full` (nothing is left in its store).
        devices: names, groups, or patterns such as `porch-*`.
        at_s: after the start of the job, or
        round: in this round: a device that joins or leaves, when the round opens; another one, when
            it gets its task of that round.
        after_s: so much later than the round says.
        for_s: how long it lasts; None = to the end.
        factor: `hot`: of the board's speed.
    """

    kind: str
    devices: tuple[str, ...]
    at_s: float | None = None
    round: int | None = None
    after_s: float = 0.0
    for_s: float | None = None
    factor: float = 0.5

    def __post_init__(self) -> None:
        kinds = [kind.value for kind in Kind]
        if self.kind.startswith("clock"):
            raise ValueError(f"kind '{self.kind}': {NO_CLOCK}")
        if self.kind not in kinds:
            raise ValueError(f"unknown kind '{self.kind}'{near(self.kind, kinds)}")
        if not self.devices:
            raise ValueError(f"{self.kind}: devices: name at least one")
        if (self.at_s is None) == (self.round is None):
            raise ValueError(f"{self.kind}: give either at_s or round")
        if self.round is not None and self.round < 0:
            raise ValueError(f"{self.kind}: round must be 0 (stage 1) or more, got {self.round}")
        for key in ("at_s", "after_s"):
            value = getattr(self, key)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{self.kind}: {key} must not be negative, got {value:g}")
        if self.for_s is not None and not self.for_s > 0:
            raise ValueError(f"{self.kind}: for_s must be positive, got {self.for_s:g}")
        if self.kind == Kind.JOIN.value and self.for_s is not None:
            raise ValueError("join: a device that joins stays: let it leave by another event")
        if not LEAST_FACTOR <= self.factor <= 1:
            raise ValueError(
                f"{self.kind}: factor is a share of the board's speed from {LEAST_FACTOR:g} to 1, "
                f"got {self.factor:g}"
            )

    @property
    def sort(self) -> Kind:
        """What happens."""
        return Kind(self.kind)

    @property
    def lasts_s(self) -> float | None:
        """How long, in the board's seconds; None = to the end."""
        return LASTS_S[self.sort] if self.for_s is None else self.for_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario file."""

    name: str
    events: tuple[Happening, ...]
    title: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 64 letters, digits, '_', '.' or '-', got '{self.name}'"
            )
        if not self.events:
            raise ValueError("a scenario without events is none: leave it out")


def load_scenario(path: Path, fleet: Fleet) -> Scenario:
    """Read a scenario file and hold it against a fleet.

    Raises:
        ConfigError: it is missing or invalid, or speaks of devices or rounds that there are not.
    """
    scenario = load(Scenario, path)
    for number, happening in enumerate(scenario.events, start=1):
        where = f"{path}: events, number {number} ({happening.kind})"
        try:
            for pattern in happening.devices:
                matching(fleet, pattern)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        if happening.round is not None and happening.round > fleet.job.rounds:
            raise ConfigError(
                f"{where}: round {happening.round} never comes: the job has {fleet.job.rounds}"
            )
    late = latecomers(scenario, fleet)
    for device in fleet.devices:
        if late.count(device) > 1:
            raise ConfigError(f"{path}: '{device}' joins twice")
    if len(late) == len(fleet.devices):
        raise ConfigError(f"{path}: every device joins late, so nothing ever begins")
    return scenario


def latecomers(scenario: Scenario | None, fleet: Fleet) -> list[str]:
    """The devices that are not there from the start, once for each time that they join."""
    joins = [one for one in scenario.events if one.sort is Kind.JOIN] if scenario else []
    return [device for one in joins for device in devices_of(one, fleet)]


def devices_of(happening: Happening, fleet: Fleet) -> tuple[str, ...]:
    """The devices that something happens to, each once, in the fleet's order."""
    meant = {device for pattern in happening.devices for device in matching(fleet, pattern)}
    return tuple(device for device in fleet.devices if device in meant)
