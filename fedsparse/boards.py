"""Board profiles: what is known of a device's means, each figure with its basis and its source."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from fedsparse.config import load
from fedsparse.errors import ConfigError

BASES: Final = ("measured", "specified", "estimated")
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
DATE: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")
SUFFIX: Final = ".toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a profile and why it may be believed; its unit is in the key that holds it.

    Attributes:
        value: positive.
        basis: `measured` on the board, `specified` by its maker, or `estimated` by us.
        source: where it comes from, or the formula behind an estimate.
        date: when that was so, `YYYY-MM` or `YYYY-MM-DD`.
    """

    value: float
    basis: str
    source: str
    date: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"value must be positive and finite, got {self.value}")
        if self.basis not in BASES:
            raise ValueError(f"basis must be one of {', '.join(BASES)}, got '{self.basis}'")
        if not self.source.strip():
            raise ValueError("source must say where the figure comes from")
        if not DATE.fullmatch(self.date):
            raise ValueError(f"date must be YYYY-MM or YYYY-MM-DD, got '{self.date}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The `[memory]` table.

    Attributes:
        total_mib: fitted on the board.
        available_mib: what an idle operating system leaves.
        memcpy_bytes_per_s, memset_bytes_per_s: documentation; nothing is decided by them.
    """

    total_mib: Figure
    available_mib: Figure | None = None
    memcpy_bytes_per_s: Figure | None = None
    memset_bytes_per_s: Figure | None = None

    def __post_init__(self) -> None:
        _check_range("total_mib", self.total_mib, 16, 2**20)
        available = self.available_mib
        if available is not None and available.value > self.total_mib.value:
            raise ValueError(
                f"available_mib {available.value:g} exceeds total_mib {self.total_mib.value:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The `[compute]` table.

    Attributes:
        multiply_adds_per_s: of one thread that trains on the sparse kernels.
        hpl_flops: High-Performance Linpack over all cores, for comparison only.
    """

    multiply_adds_per_s: Figure | None = None
    hpl_flops: Figure | None = None

    def __post_init__(self) -> None:
        _check_range("multiply_adds_per_s", self.multiply_adds_per_s, 1e6, 1e12)
        _check_range("hpl_flops", self.hpl_flops, 1e6, 1e14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The `[network]` table: the board's own port; Wi-Fi that nobody has measured is left out."""

    up_bytes_per_s: Figure | None = None
    down_bytes_per_s: Figure | None = None

    def __post_init__(self) -> None:
        _check_range("up_bytes_per_s", self.up_bytes_per_s, 10, 1e11)
        _check_range("down_bytes_per_s", self.down_bytes_per_s, 10, 1e11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One profile; a figure that is None is unknown.

    Attributes:
        name: its name in configuration files, `raspberry-pi-4b-2gb`.
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
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name must be 1 to 48 lower-case letters, digits or '-', got '{self.name}'"
            )
        _check_range("cores", self.cores, 1, 1024)
        if self.cores.value != int(self.cores.value):
            raise ValueError(f"cores must be a whole number, got {self.cores.value}")


def board_names() -> tuple[str, ...]:
    """The profiles that ship with the package, sorted."""
    entries = resources.files("profiles").iterdir()
    return tuple(
        sorted(entry.name[: -len(SUFFIX)] for entry in entries if entry.name.endswith(SUFFIX))
    )


def load_board(name_or_path: str | Path) -> Board:
    """Load a shipped profile by its name, or any profile by the path of its `.toml` file.

    Raises:
        ConfigError: no such profile (the nearest names are given), or the file is invalid.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(SUFFIX) or "/" in text:
        return load(Board, Path(text))
    if text not in board_names():
        raise ConfigError(f"unknown board '{text}'{_suggest(text)}")
    with resources.as_file(resources.files("profiles") / f"{text}{SUFFIX}") as path:
        return load(Board, path)


def _suggest(name: str) -> str:
    known = board_names()
    wanted = name.lower().replace("_", "-")
    near = [one for one in known if wanted in one] if wanted else []
    near = near or difflib.get_close_matches(wanted, known, n=2, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(repr(one) for one in near)}?"
    return f"; known boards: {', '.join(known)}; or give the path of a .toml profile"


def _check_range(key: str, figure: Figure | None, low: float, high: float) -> None:
    if figure is not None and not low <= figure.value <= high:
        raise ValueError(f"{key} {figure.value:g} is absurd: expected {low:g} to {high:g}")
