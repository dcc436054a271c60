"""The tables of a profile, validated when built; a figure that is None is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Final

from fedsparse.boards.figure import (
    BYTE_RATE_SLIPS,
    HERTZ_SLIPS,
    MIB_SLIPS,
    RATE_SLIPS,
    Figure,
    Range,
)
from fedsparse.boards.speed import EFFICIENCY, estimate_speed

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
MAX_TEXT: Final = 80

CORES: Final = Range(low=1, high=1024, unit="cores")
# 64-bit Linux, Python and numpy need more than the least; 8 and 16 (GB) are below it.
TOTAL_MEMORY: Final = Range(low=128, high=2**20, unit="MiB", slips=MIB_SLIPS)
FREE_MEMORY: Final = Range(low=1, high=2**20, unit="MiB", slips=MIB_SLIPS)
MEMORY_RATE: Final = Range(low=1e7, high=1e13, unit="bytes/s", slips=BYTE_RATE_SLIPS)
CLOCK: Final = Range(low=1e7, high=2e10, unit="Hz", slips=HERTZ_SLIPS)
LANES: Final = Range(low=1, high=256, unit="lanes of 32 bits")
SPEED: Final = Range(low=1e6, high=1e12, unit="multiply-adds/s", slips=RATE_SLIPS)
HPL: Final = Range(low=1e6, high=1e14, unit="operations/s", slips=RATE_SLIPS)
STORAGE_RATE: Final = Range(low=1e4, high=1e11, unit="bytes/s", slips=BYTE_RATE_SLIPS)
LINK_RATE: Final = Range(low=2e3, high=1e11, unit="bytes/s", slips=BYTE_RATE_SLIPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The `[memory]` table.

    Attributes:
        total_mib: fitted on the board.
        available_mib: what an idle operating system leaves.
        memcpy_bytes_per_s: bytes that one thread copies; bounds an estimated speed.
        memset_bytes_per_s: bytes that one thread writes; for comparison only.
    """

    total_mib: Figure
    available_mib: Figure | None = None
    memcpy_bytes_per_s: Figure | None = None
    memset_bytes_per_s: Figure | None = None

    def __post_init__(self) -> None:
        TOTAL_MEMORY.check("total_mib", self.total_mib)
        FREE_MEMORY.check("available_mib", self.available_mib)
        MEMORY_RATE.check("memcpy_bytes_per_s", self.memcpy_bytes_per_s)
        MEMORY_RATE.check("memset_bytes_per_s", self.memset_bytes_per_s)
        available = self.available_mib
        if available is not None and available.value > self.total_mib.value:
            raise ValueError(
                f"available_mib {available.value:g} exceeds total_mib {self.total_mib.value:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The `[compute]` table.

    Attributes:
        multiply_adds_per_s: of one thread that trains on the sparse kernels; where it is left out,
            the speed is estimated from the four keys below (`Board.speed`).
        clock_hz: the highest at which all cores run.
        fma_lanes_per_cycle: float32 multiply-adds that a core's vector units start in a cycle.
        load_lanes_per_cycle: float32 values that a core loads into vectors in a cycle.
        pipeline: `in-order` or `out-of-order`.
        hpl_flops: High-Performance Linpack over all cores, for comparison only.
    """

    multiply_adds_per_s: Figure | None = None
    clock_hz: Figure | None = None
    fma_lanes_per_cycle: Figure | None = None
    load_lanes_per_cycle: Figure | None = None
    pipeline: str | None = None
    hpl_flops: Figure | None = None

    def __post_init__(self) -> None:
        SPEED.check("multiply_adds_per_s", self.multiply_adds_per_s)
        CLOCK.check("clock_hz", self.clock_hz)
        LANES.check("fma_lanes_per_cycle", self.fma_lanes_per_cycle)
        LANES.check("load_lanes_per_cycle", self.load_lanes_per_cycle)
        HPL.check("hpl_flops", self.hpl_flops)
        if self.pipeline is not None and self.pipeline not in EFFICIENCY:
            known = " or ".join(f"'{one}'" for one in EFFICIENCY)
            raise ValueError(f"pipeline must be {known}, got '{self.pipeline}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The `[storage]` table: what the store and the outbox are written to.

    Attributes:
        write_bytes_per_s: in one piece and onto the disk.
    """

    write_bytes_per_s: Figure | None = None

    def __post_init__(self) -> None:
        STORAGE_RATE.check("write_bytes_per_s", self.write_bytes_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The `[network]` table: the board's own port; Wi-Fi that nobody has measured is left out.

    Attributes:
        up_bytes_per_s, down_bytes_per_s: from and to the board. What is `specified` is the rate of
            the port, which real traffic does not reach.
    """

    up_bytes_per_s: Figure | None = None
    down_bytes_per_s: Figure | None = None

    def __post_init__(self) -> None:
        LINK_RATE.check("up_bytes_per_s", self.up_bytes_per_s)
        LINK_RATE.check("down_bytes_per_s", self.down_bytes_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One profile.

    Attributes:
        name: its name in configuration files and of its file, `raspberry-pi-4b-2gb`.
        title: its name in the shop.
        cpu: cores and clock in words.
        cores: number of them.
    """

    name: str
    title: str
    cpu: str
    cores: Figure
    memory: Memory
    compute: Compute = field(default_factory=Compute)
    storage: Storage = field(default_factory=Storage)
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 48 lower-case letters, digits or '-', got '{self.name}'"
            )
        for key, text in (("title", self.title), ("cpu", self.cpu)):
            if len(text) > MAX_TEXT or not text.isprintable():
                raise ValueError(f"{key} must be one line of at most {MAX_TEXT} characters")
        CORES.check("cores", self.cores)
        if self.cores.value != int(self.cores.value):
            raise ValueError(f"cores must be a whole number, got {self.cores.value}")

    @property
    def speed(self) -> Figure | None:
        """Multiply-adds per second of one training thread: the profile's figure, or an estimate.

        None where the profile has neither the figure nor all that an estimate takes.
        """
        compute = self.compute
        if compute.multiply_adds_per_s is not None:
            return compute.multiply_adds_per_s
        clock, fma, load, pipeline = (
            compute.clock_hz,
            compute.fma_lanes_per_cycle,
            compute.load_lanes_per_cycle,
            compute.pipeline,
        )
        if clock is None or fma is None or load is None or pipeline is None:
            return None
        return estimate_speed(clock, fma, load, pipeline, self.memory.memcpy_bytes_per_s)

    def figures(self) -> Iterator[tuple[str, Figure | None]]:
        """Every figure that a profile can have, by its key (`memory.total_mib`), in their order."""
        yield "cores", self.cores
        for name in ("memory", "compute", "storage", "network"):
            table = getattr(self, name)
            for one in fields(table):
                if one.name != "pipeline":  # the one key that is no figure
                    yield f"{name}.{one.name}", getattr(table, one.name)
