"""What the server knows between two rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedsparse.methods.statistics import LevelStatistics
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
        statistics: running statistics of each level; None where levels share them.
    """

    weights: Weights
    masks: Mapping[float, BoolArray]
    mask_epoch: int = 0
    sensed: bool = True
    pretrained: bool = False
    statistics: LevelStatistics | None = None

    @property
    def d_max(self) -> float:
        """The largest level."""
        return max(self.masks)

    def weights_at(self, level: float) -> Weights:
        """The weights with this level's own running statistics; prunable `(num_prunable,)`."""
        if self.statistics is None:
            return self.weights
        dense = self.statistics.dense_at(level, self.weights.dense)
        return replace(self.weights, dense=dense)

    def level_weights(self, level: float) -> Weights:
        """What a device of this level holds: prunable `(nnz,)`, dense `(num_dense,)`."""
        weights = self.weights_at(level)
        return replace(weights, prunable=weights.prunable[self.masks[level]])

    def with_masks(self, masks: Mapping[float, BoolArray]) -> ServerState:
        """The state under these masks; the mask epoch counts up only if one of them is new."""
        same = all(np.array_equal(self.masks[level], mask) for level, mask in masks.items())
        return replace(self, masks=masks, mask_epoch=self.mask_epoch + (not same))


def masked(weights: Weights, mask: BoolArray) -> Weights:
    """The weights with 0 outside a mask `(num_prunable,)`."""
    return Weights(prunable=np.where(mask, weights.prunable, np.float32(0)), dense=weights.dense)
