"""`sparsyfed`: trained by powerpropagation, under masks that move a little every round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fedsparse.methods.jmwst import JointMasks

POWER: Final = 1.25
SMALL_REGROWTH: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class ReparametrisedMasks(JointMasks):
    """`jmwst` without stage 1, in every round, on weights that are powers.

    A power of a small weight hardly learns, so that the mask that magnitude chooses confirms
    itself: little needs to be exchanged.

    Source: SparsyFed (Guastella et al., ICLR 2025); deviations in docs/algorithm.md.
    """

    power: float = POWER
    start_rate: float = SMALL_REGROWTH

    def evolves(self, round_id: int) -> bool:
        """See `Method`."""
        return round_id + 1 < self.rounds
