"""How fast the fleet's time goes by on this host, and whether the host can be that fleet at all."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Final

import psutil

from edge_client.emulation.board_limits import memory_of, open_board, speed_of
from edge_client.emulation.cpu import LEAST_SHARE
from edge_client.emulation.host_speed import HostSpeed
from edge_client.emulation.scale import FASTEST, SLOWEST, TimeScale
from fedsparse.boards import Board
from fedsparse.errors import ConfigError
from tools.emulate.fleet_file import Fleet

FLEETS_SHARE: Final = 0.8  # of the processors: broker, aggregator and this command need the rest
MOST_BY_ITSELF: Final = 10.0  # faster, what does not scale (the broker, this host) would show
MIB: Final = 2**20
LEAST_BYTES: Final = 64 * MIB  # of a device that trains something small


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this host has.

    Attributes:
        processors: that this process may use.
        memory_bytes, free_bytes: fitted, and available now.
        speed: of one processor.
    """

    processors: int
    memory_bytes: int
    free_bytes: int
    speed: HostSpeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A time scale, and why.

    Attributes:
        scale: of all devices.
        why: one sentence for people.
        processors: of this host that the fleet takes when all devices train at once; None is
            unknown.
    """

    scale: TimeScale
    why: str
    processors: float | None


def this_machine(speed: HostSpeed) -> Machine:
    """This host."""
    memory = psutil.virtual_memory()
    return Machine(
        processors=len(os.sched_getaffinity(0)),
        memory_bytes=memory.total,
        free_bytes=memory.available,
        speed=speed,
    )


def boards_of(fleet: Fleet) -> dict[str, Board]:
    """Each group's board."""
    return {group.name: open_board(group.board) for group in fleet.groups}


def find_pace(fleet: Fleet, machine: Machine) -> Pace:
    """The time scale that the file gives, or the largest at which this host keeps up with all.

    Raises:
        ConfigError: this host cannot be the fleet; the message says what would do.
    """
    check_memory(fleet, machine)
    boards = boards_of(fleet)
    shares = {
        group.name: speed.value / machine.speed.multiply_adds_per_s
        for group in fleet.groups
        if (speed := speed_of(boards[group.name])) is not None
    }
    if not shares:
        return _unknown(fleet)
    each = sum(shares[group.name] * group.count for group in fleet.groups if group.name in shares)
    largest = min(FLEETS_SHARE * machine.processors / each, 1 / max(shares.values()))
    slowest = min(shares, key=lambda name: shares[name])
    least = LEAST_SHARE / shares[slowest]
    if least > largest:
        raise ConfigError(
            f"this host cannot be this fleet: all of it at once needs a time scale below "
            f"{largest:.2g}, and '{slowest}' is so slow that it needs {least:.2g}; take fewer or "
            "slower boards, or a larger host"
        )
    if fleet.time_scale is None:
        factor = min(_rounded_down(largest), MOST_BY_ITSELF)
        why = (
            f"{factor:g}, chosen: the largest at which {len(fleet.devices)} devices that train at "
            f"once take at most {FLEETS_SHARE:.0%} of {machine.processors} processors, and no "
            f"board more than one; never above {MOST_BY_ITSELF:g}"
        )
    else:
        factor, why = fleet.time_scale, f"{fleet.time_scale:g}, as the fleet file says"
        _check_given(factor, each, max(shares.values()), least, machine)
    return Pace(scale=TimeScale(factor=factor), why=why, processors=factor * each)


def check_memory(fleet: Fleet, machine: Machine) -> None:
    """Raises `ConfigError` where a board, or the fleet, wants more memory than there is."""
    boards = boards_of(fleet)
    needed = 0
    for group in fleet.groups:
        limit, _ = memory_of(boards[group.name])
        if group.memory_mib is not None:
            if group.memory_mib * MIB > limit:
                raise ConfigError(
                    f"the group '{group.name}': memory_mib {group.memory_mib:g} is more than the "
                    f"board leaves to programs, {limit / MIB:.0f}"
                )
            limit = int(group.memory_mib * MIB)
        if limit > machine.memory_bytes:
            raise ConfigError(
                f"the group '{group.name}': {group.board} has {limit / MIB:.0f} MiB for programs, "
                f"and this host {machine.memory_bytes / MIB:.0f} in all: give the group a "
                "memory_mib that is there"
            )
        needed += group.count * min(limit, LEAST_BYTES)
    if needed > machine.free_bytes:
        raise ConfigError(
            f"{len(fleet.devices)} devices need {needed / MIB:.0f} MiB at the very least, and "
            f"{machine.free_bytes / MIB:.0f} are free on this host: take fewer devices"
        )


def _check_given(
    factor: float, each: float, largest: float, least: float, machine: Machine
) -> None:
    if factor * each > machine.processors or factor * largest > 1:
        most = min(machine.processors / each, 1 / largest)
        raise ConfigError(
            f"time_scale {factor:g} is too fast for this host: the fleet would need "
            f"{factor * each:.2g} of {machine.processors} processors, and its fastest board "
            f"{factor * largest:.2g} of one; at most {_rounded_down(most):g} fits, or leave it out"
        )
    if factor < least:
        raise ConfigError(
            f"time_scale {factor:g} is too slow: the slowest board would get less than the "
            f"kernel's least share of a processor, {LEAST_SHARE:g}; at least {least:.2g}"
        )


def _unknown(fleet: Fleet) -> Pace:
    """Nobody knows how fast any of the boards is: nothing limits their processors."""
    factor = fleet.time_scale or 1.0
    why = f"{factor:g}: no board's speed is known, so processors are not limited"
    return Pace(scale=TimeScale(factor=factor), why=why, processors=None)


def _rounded_down(value: float) -> float:
    """Two digits, so that the same host gives the same scale again."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return min(FASTEST, max(SLOWEST, float(f"{math.floor(value / step + 1e-9) * step:.6g}")))
