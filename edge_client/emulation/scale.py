"""One time scale for a whole fleet: how fast the emulated boards' time goes by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

SLOWEST: Final = 1e-3
FASTEST: Final = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeScale:
    """In one second of this host's clock, `factor` seconds go by on every board.

    Everything scales with it: a board's processor gets `factor` times its share of this host, its
    link carries `factor` times its bytes in a second of the host, and delays, cuts and deadlines
    take 1 / `factor` of their time. Ratios between training, transfers and deadlines stay those of
    the boards, so what is decided and who is late stays the same.

    Attributes:
        factor: 1 = the boards' own time.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and SLOWEST <= self.factor <= FASTEST):
            raise ValueError(f"a time scale lies in {SLOWEST:g} to {FASTEST:g}, not {self.factor}")

    def host_s(self, board_s: float) -> float:
        """How long `board_s` seconds of a board take on the host's clock."""
        return board_s / self.factor

    def board_s(self, host_s: float) -> float:
        """How many seconds go by on a board in `host_s` seconds of the host's clock."""
        return host_s * self.factor

    def host_rate(self, board_rate: float) -> float:
        """What a rate per board second is per second of the host."""
        return board_rate * self.factor
