"""`ssfl`: one mask of the most salient weights, found before training, then fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedsparse.methods.fixed import FixedMasks, SenseReport
from fedsparse.methods.state import ServerState, masked
from fedsparse.sparsity.densities import layer_slices
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import salient_mask
from fedsparse.types import BoolArray, Float32Array, Weights


@dataclass(frozen=True, kw_only=True)
class SalientMasks(FixedMasks):
    """In stage 1 a few devices hold the dense model and say how much each weight matters to them.

    The weights stay those on which saliency was measured. For the `kept` fan-in each layer is
    scaled to the energy that it had before its weights were cut; for the `dense` one nothing is.

    Source: SSFL (Ohib et al., TMLR 2026); deviations in docs/algorithm.md.
    """

    salient: ClassVar[bool] = True

    def first_counts(self, level: float) -> tuple[int, ...]:
        """See `Method`: whatever the level, stage 1 is done with all weights."""
        return tuple(tensor.size for tensor in self.plan.prunable)

    def initial(self, rng: np.random.Generator, weights: Weights | None = None) -> ServerState:
        """See `Method`."""
        everything = self.first_counts(self.levels[0])
        start = initial_weights(self.plan, everything, rng) if weights is None else weights
        mask = np.ones(self.plan.num_prunable, np.bool_)
        return ServerState(
            weights=start,
            masks=dict.fromkeys(self.levels, mask),
            sensed=False,
            pretrained=weights is not None,
        )

    def after_sense(
        self,
        state: ServerState,
        reports: Sequence[SenseReport],
        rng: np.random.Generator,
        saliency: Float32Array | None = None,
    ) -> ServerState:
        """See `Method`."""
        if saliency is None:
            raise ValueError("no device reported its saliency")
        masks = {
            level: salient_mask(self.plan, saliency, self.plan.kept(level)) for level in self.levels
        }
        mask = masks[self.levels[0]]
        weights = state.weights
        if self.initialisation == "kept" and not state.pretrained:
            weights = replace(weights, prunable=self._with_energy(weights.prunable, mask))
        return replace(
            state,
            weights=masked(weights, mask),
            masks=masks,
            mask_epoch=state.mask_epoch + 1,
            sensed=True,
        )

    def _with_energy(self, values: Float32Array, mask: BoolArray) -> Float32Array:
        """`(num_prunable,)`, each layer scaled to keep the energy of all its weights."""
        scaled: Float32Array = values.copy()
        for layer in layer_slices(self.plan):
            kept = np.square(values[layer][mask[layer]], dtype=np.float64).sum()
            if kept > 0:
                gain = np.sqrt(np.square(values[layer], dtype=np.float64).sum() / kept)
                scaled[layer] *= np.float32(gain)
        return scaled
