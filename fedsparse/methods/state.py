"""What the server knows between two rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedsparse.types import BoolArray, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """The global model of a job; nothing in it is changed in place.

    Attributes:
        weights: prunable `(num_prunable,)`, dense `(num_dense,)`. Outside the largest mask they
            are 0, but for `nst`, whose devices hold other positions, and before stage 1 is done.
        masks: by density level, `(num_prunable,)` each; each lies within every larger one.
        mask_epoch: how often the masks have changed.
        sensed: whether stage 1 is done (always true for a method without it).
        pretrained: whether the weights were given; they are then never drawn anew.
    """

    weights: Weights
    masks: Mapping[float, BoolArray]
    mask_epoch: int = 0
    sensed: bool = True
    pretrained: bool = False

    @property
    def d_max(self) -> float:
        """The largest level."""
        return max(self.masks)

    def level_weights(self, level: float) -> Weights:
        """What a device of this level holds: prunable `(nnz,)`, dense `(num_dense,)`."""
        return Weights(prunable=self.weights.prunable[self.masks[level]], dense=self.weights.dense)

    def with_masks(self, masks: Mapping[float, BoolArray]) -> ServerState:
        """The state under these masks; the mask epoch counts up only if one of them is new."""
        same = all(np.array_equal(self.masks[level], mask) for level, mask in masks.items())
        return replace(self, masks=masks, mask_epoch=self.mask_epoch + (not same))


def masked(weights: Weights, mask: BoolArray) -> Weights:
    """The weights with 0 outside a mask `(num_prunable,)`."""
    return Weights(prunable=np.where(mask, weights.prunable, np.float32(0)), dense=weights.dense)
