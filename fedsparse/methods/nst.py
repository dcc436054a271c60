"""`nst`, naive sparse training: every device evolves a mask of its own, without consensus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fedsparse.methods.fixed import FixedMasks, MaskReport
from fedsparse.methods.state import ServerState
from fedsparse.types import Weights


@dataclass(frozen=True, kw_only=True)
class OwnMasks(FixedMasks):
    """The server keeps the union of all devices' weights; its masks are for evaluation and export.

    They follow every round: the devices' mean layer densities, the largest aggregated weights.
    """

    own_masks: ClassVar[bool] = True

    def evolves(self, round_id: int) -> bool:
        """See `Method`."""
        return True

    def next_state(
        self,
        state: ServerState,
        mean: Weights,
        reports: Sequence[MaskReport],
        round_id: int,
    ) -> ServerState:
        """See `Method`. Source: FLASH reference; deviation: evaluated through the mask."""
        if not reports:
            return replace(state, weights=mean)
        found = [(num_examples, counts) for num_examples, _, counts in reports]
        return replace(state, weights=mean).with_masks(self._aggregate_masks(mean, found))
