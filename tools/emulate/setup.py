"""What a run is made of: the files, the pace, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.emulate.devices import Device, check_known, devices_of_fleet
from tools.emulate.fleet_file import Fleet
from tools.emulate.layout import host_deadline_s
from tools.emulate.pace import Machine, Pace, find_pace
from tools.emulate.scenario_file import Kind, Scenario, devices_of, latecomers

PATIENCE_S: Final = 180.0  # of this host, beyond what the job itself may wait for


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is run.

    Attributes:
        fleet, scenario: the files.
        machine: this host.
        pace: of the boards' time.
        devices: of the fleet.
        output: absolute.
    """

    fleet: Fleet
    scenario: Scenario | None
    machine: Machine
    pace: Pace
    devices: tuple[Device, ...]
    output: Path

    @property
    def late(self) -> frozenset[str]:
        """The devices that are not there from the start."""
        return frozenset(latecomers(self.scenario, self.fleet))

    @property
    def bounded(self) -> frozenset[str]:
        """The devices that are to run out of disk."""
        events = self.scenario.events if self.scenario else ()
        full = [one for one in events if one.sort is Kind.DISK_FULL]
        return frozenset(name for one in full for name in devices_of(one, self.fleet))

    @property
    def patience_s(self) -> float:
        """How long there may be no progress, in this host's seconds."""
        job, scale = self.fleet.job, self.pace.scale
        waits_s = scale.host_s(job.gather_s + job.offline_grace_s)
        return PATIENCE_S + waits_s + host_deadline_s(self.fleet, scale)


def set_up(fleet: Fleet, scenario: Scenario | None, machine: Machine, output: Path) -> Setup:
    """Find the pace of a fleet on a machine.

    Raises:
        ConfigError: the machine cannot be this fleet, or nobody knows enough of a board.
    """
    check_known(fleet)
    return Setup(
        fleet=fleet,
        scenario=scenario,
        machine=machine,
        pace=find_pace(fleet, machine),
        devices=devices_of_fleet(fleet),
        output=output.resolve(),
    )
