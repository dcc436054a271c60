"""One number and why it may be believed; what is absurd for it, and the unit it was probably in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Final

MEASURED: Final = "measured"
SPECIFIED: Final = "specified"
ESTIMATED: Final = "estimated"
BASES: Final = (MEASURED, SPECIFIED, ESTIMATED)
DATE: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-\d{2})?")
FIRST_YEAR: Final = 2000  # what a clock that was never set says is before


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
            raise ValueError(
                f"value must be positive and finite, got {self.value:g}; leave out what is unknown"
            )
        if self.basis not in BASES:
            raise ValueError(f"basis must be one of {', '.join(BASES)}, got '{self.basis}'")
        if not self.source.strip():
            raise ValueError("source must say where the figure comes from")
        _check_date(self.date)


def _check_date(text: str) -> None:
    try:
        if not DATE.fullmatch(text):
            raise ValueError(text)
        day = date.fromisoformat(text if len(text) > len("2026-11") else f"{text}-01")
    except ValueError as error:
        raise ValueError(f"date must be YYYY-MM or YYYY-MM-DD, got '{text}'") from error
    if day.year < FIRST_YEAR:
        raise ValueError(f"date {text} is before {FIRST_YEAR}: was the clock not set?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a figure may be at all; anything else is a slip, mostly one of the unit.

    Attributes:
        low, high: both inclusive.
        unit: of both.
        slips: name of a unit that is written by mistake -> what to multiply by.
    """

    low: float
    high: float
    unit: str
    slips: tuple[tuple[str, float], ...] = ()

    def check(self, key: str, figure: Figure | None) -> None:
        """Hold a figure against the range; None, what is unknown, passes.

        Raises:
            ValueError: it is absurd; the message has the range, its unit, and what would fit.
        """
        if figure is None or self._has(figure.value):
            return
        unit = f" {self.unit}" if self.unit else ""
        meant = [
            f"if it is in {name}, write {figure.value * factor:g}"
            for name, factor in self.slips
            if self._has(figure.value * factor)
        ]
        raise ValueError(
            "; ".join(
                [
                    f"{key} {figure.value:g} is absurd: "
                    f"expected {self.low:g} to {self.high:g}{unit}",
                    *meant,
                ]
            )
        )

    def _has(self, value: float) -> bool:
        return self.low <= value <= self.high


MIB_SLIPS: Final = (("bytes", 2.0**-20), ("KiB", 2.0**-10), ("GiB", 2.0**10))
BYTE_RATE_SLIPS: Final = (("MB/s", 1e6), ("GB/s", 1e9), ("Mbit/s", 1e6 / 8), ("bit/s", 1 / 8))
HERTZ_SLIPS: Final = (("GHz", 1e9), ("MHz", 1e6), ("kHz", 1e3))
RATE_SLIPS: Final = (("millions a second", 1e6), ("billions a second", 1e9))
