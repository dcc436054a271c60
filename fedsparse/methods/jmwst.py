"""`jmwst`: masks and weights are trained jointly; the masks change every `r_int` rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedsparse.methods.fixed import FixedMasks, MaskReport
from fedsparse.methods.state import ServerState, masked
from fedsparse.types import Weights


@dataclass(frozen=True, kw_only=True)
class JointMasks(FixedMasks):
    """Starts as `spdst`; in each `r_int`-th round devices evolve their masks, and all masks follow.

    The new masks have the devices' mean layer densities and keep the largest aggregated weights;
    what they leave out is forgotten. The last round changes nothing: nobody would train the result.
    """

    def evolves(self, round_id: int) -> bool:
        """See `Method`."""
        return (round_id + 1) % self.r_int == 0 and round_id + 1 < self.rounds

    def next_state(
        self,
        state: ServerState,
        mean: Weights,
        reports: Sequence[MaskReport],
        round_id: int,
    ) -> ServerState:
        """See `Method`. Source: FLASH, Algorithm JMWST (reference: get_next_round_mask)."""
        if not self.evolves(round_id) or not reports:
            return super().next_state(state, mean, reports, round_id)
        found = [(num_examples, counts) for num_examples, _, counts in reports]
        masks = self._aggregate_masks(mean, found)
        return replace(state, weights=masked(mean, masks[self.levels[0]])).with_masks(masks)
