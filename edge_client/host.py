"""The one interface through which a device's means are read: the machine, or a board's profile.

An emulated host answers memory, compute and link from a profile; everything else of the device is
the same code, so that a policy can be tried without the board.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from edge_client.calibration import Calibration
from edge_client.probe.board import read_model
from edge_client.probe.heat import HeatReading, read_heat
from edge_client.probe.link import LinkEstimate
from edge_client.probe.memory import MemoryReading, read_memory
from edge_client.probe.power import PowerReading, read_power
from fedsparse.boards import Board, Figure, load_board
from fedsparse.errors import ConfigError

MIB: Final = 2**20
HERE: Final = Path()
SPEED_KEYS: Final = (
    "compute.multiply_adds_per_s (or clock_hz, fma_lanes_per_cycle, load_lanes_per_cycle and "
    "pipeline, which it is estimated from)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedReading:
    """How fast one training step runs.

    Attributes:
        multiply_adds_per_s: level -> the rate at that density, a batch in one piece.
        basis: `measured` on this device, or `estimated`.
    """

    multiply_adds_per_s: Mapping[float, float]
    basis: str

    def at(self, level: float) -> float:
        """The rate at a level that was calibrated."""
        return self.multiply_adds_per_s[level]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReading:
    """Rates of the network as the device sees them; None is unknown.

    Attributes:
        up_bytes_per_s, down_bytes_per_s: from and to the device.
        basis: `specified`, `measured`, `estimated` or `unknown`.
    """

    up_bytes_per_s: float | None
    down_bytes_per_s: float | None
    basis: str


class Host(Protocol):
    """What training may draw on."""

    @property
    def board(self) -> str:
        """What the machine is."""
        ...

    @property
    def emulated(self) -> bool:
        """Whether a profile stands in for the machine."""
        ...

    def memory(self) -> MemoryReading:
        """Memory at this moment."""
        ...

    def speed(self, calibration: Calibration) -> SpeedReading:
        """Training speed, given what the trainer measured here."""
        ...

    def link(self) -> LinkReading:
        """Network rates."""
        ...

    def heat(self) -> HeatReading:
        """How warm it is, and whether it is slowed down for that."""
        ...

    def power(self) -> PowerReading:
        """What feeds it."""
        ...


class RealHost:
    """The machine itself: limits of the system, its control groups and this process count.

    Args:
        memory, heat, power: read it.
        link: what recent transfers say; by default nothing, for nothing is sent only to measure.
    """

    emulated: Final = False

    def __init__(
        self,
        memory: Callable[[], MemoryReading] = read_memory,
        link: Callable[[], LinkEstimate] = LinkEstimate,
        heat: Callable[[], HeatReading] = read_heat,
        power: Callable[[], PowerReading] = read_power,
    ) -> None:
        self.board = read_model()
        self._memory = memory
        self._link = link
        self._heat = heat
        self._power = power

    def memory(self) -> MemoryReading:
        """Memory at this moment, as limited."""
        return self._memory()

    def speed(self, calibration: Calibration) -> SpeedReading:
        """The speed that the trainer measured."""
        return SpeedReading(multiply_adds_per_s=calibration.speeds, basis="measured")

    def link(self) -> LinkReading:
        """The rates of recent transfers."""
        estimate = self._link()
        return LinkReading(
            up_bytes_per_s=estimate.up_bytes_per_s,
            down_bytes_per_s=estimate.down_bytes_per_s,
            basis="measured" if estimate.transfers else "unknown",
        )

    def heat(self) -> HeatReading:
        """As the system's sensors tell."""
        return self._heat()

    def power(self) -> PowerReading:
        """As the system tells."""
        return self._power()


class EmulatedHost:
    """A board's profile in place of the machine that really runs.

    Args:
        board: the profile; it must say what memory is available and how fast the kernels run.
        real: the machine, which must have the memory that the board would have.

    Raises:
        ConfigError: the profile lacks a figure.
    """

    emulated: Final = True

    def __init__(self, board: Board, real: Host) -> None:
        self.board = board.name
        self._profile = board
        self._real = real
        self._available = _needed(board, "memory.available_mib", board.memory.available_mib)
        self._speed = _needed(board, SPEED_KEYS, board.speed)

    def memory(self) -> MemoryReading:
        """The profile's memory, or what the real machine has left where that is less."""
        available = int(self._available.value * MIB)
        real = self._real.memory()
        if real.available_bytes < available:
            return real
        return MemoryReading(
            total_bytes=int(self._profile.memory.total_mib.value * MIB),
            available_bytes=available,
            source=f"profile {self.board}",
            basis=self._available.basis,
        )

    def speed(self, calibration: Calibration) -> SpeedReading:
        """The profile's one figure at every level; what was measured here says nothing of it."""
        rates = dict.fromkeys(calibration.levels, self._speed.value)
        return SpeedReading(multiply_adds_per_s=rates, basis=self._speed.basis)

    def link(self) -> LinkReading:
        """The profile's network port, where it names one."""
        up, down = self._profile.network.up_bytes_per_s, self._profile.network.down_bytes_per_s
        known = up or down
        return LinkReading(
            up_bytes_per_s=up.value if up else None,
            down_bytes_per_s=down.value if down else None,
            basis=known.basis if known else "unknown",
        )

    def heat(self) -> HeatReading:
        """The machine's: what runs hot is what really runs."""
        return self._real.heat()

    def power(self) -> PowerReading:
        """The machine's."""
        return self._real.power()


def open_host(
    profile: str | None, *, link: Callable[[], LinkEstimate] = LinkEstimate, folder: Path = HERE
) -> Host:
    """The host that `client.toml` asks for.

    Args:
        profile: a board's name or the path of its profile; None is the machine itself.
        link: what recent transfers of the machine itself say.
        folder: from which a relative path is taken.
    """
    real = RealHost(link=link)
    return real if profile is None else EmulatedHost(load_board(profile, folder=folder), real)


def _needed(board: Board, key: str, figure: Figure | None) -> Figure:
    if figure is None:
        raise ConfigError(
            f"board '{board.name}' cannot be emulated: its profile lacks {key}; add the figure"
        )
    return figure
