"""`dense`, `pdst`, `spdst`: masks that are fixed before the first training round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedsparse.methods.schedule import linear_decay
from fedsparse.methods.state import ServerState, masked
from fedsparse.plan import Plan
from fedsparse.sparsity.densities import kept_counts, uniform_counts
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import (
    magnitude_mask,
    nested_masks,
    random_mask,
    reference_level_masks,
)
from fedsparse.types import BoolArray, Float32Array, Float64Array, Weights

SenseReport = tuple[int, tuple[int, ...]]  # examples, kept weights per prunable tensor
MaskReport = tuple[int, float, tuple[int, ...]]  # the same, with the device's level between


@dataclass(frozen=True, kw_only=True)
class FixedMasks:
    """The mask of the largest level is drawn once; the lower levels are its largest weights.

    `dense` keeps everything; `pdst` draws with the same density in all layers; `spdst` with the
    layer densities that stage 1 found.

    Attributes:
        plan: the model.
        levels: densities, largest first; the first one is the paper's target density `d`.
        rounds: training rounds.
        senses: whether stage 1 is needed.
        r_int: rounds between two changes of the masks, for a method that has them.
        start_rate: what drop-and-grow exchanges at the start.
        power: prunable weights are trained as `theta * |theta|^(power - 1)`.
        initialisation: whether weights are drawn for the `kept` fan-in or the `dense` one.
        reference_compat: lower levels by the reference's rule, after every round; see
            docs/algorithm.md for what else differs.
    """

    own_masks: ClassVar[bool] = False
    salient: ClassVar[bool] = False
    plan: Plan
    levels: tuple[float, ...]
    rounds: int
    senses: bool = False
    r_int: int = 1
    start_rate: float = 0.25
    power: float = 1.0
    initialisation: str = "kept"
    reference_compat: bool = False

    def first_counts(self, level: float) -> tuple[int, ...]:
        """See `Method`."""
        return uniform_counts(self.plan, level)

    def initial(self, rng: np.random.Generator, weights: Weights | None = None) -> ServerState:
        """See `Method`."""
        counts = self.first_counts(self.levels[0])
        start = self._drawn(counts, rng) if weights is None else weights
        state = ServerState(
            weights=start, masks={}, sensed=not self.senses, pretrained=weights is not None
        )
        return self._with_first_masks(state, counts, rng)

    def after_sense(
        self,
        state: ServerState,
        reports: Sequence[SenseReport],
        rng: np.random.Generator,
        saliency: Float32Array | None = None,
    ) -> ServerState:
        """See `Method`. Source: FLASH, stage 1 (reference: train_server_mask, get_avg_mask)."""
        counts = kept_counts(
            self.plan, self._mean_densities(reports), self.plan.kept(self.levels[0])
        )
        weights = state.weights if state.pretrained else self._drawn(counts, rng)
        sensed = replace(
            state, weights=weights, masks={}, mask_epoch=state.mask_epoch + 1, sensed=True
        )
        return self._with_first_masks(sensed, counts, rng)

    def evolves(self, round_id: int) -> bool:
        """See `Method`."""
        return False

    def prune_rate(self, round_id: int) -> float:
        """See `Method`."""
        return linear_decay(self.start_rate, round_id, self.rounds)

    def next_state(
        self,
        state: ServerState,
        mean: Weights,
        reports: Sequence[MaskReport],
        round_id: int,
    ) -> ServerState:
        """See `Method`."""
        after = replace(state, weights=mean)
        if not self.reference_compat:
            return after
        top = state.masks[self.levels[0]]
        masks = reference_level_masks(self.plan, mean.prunable, top, self.levels)
        return after.with_masks(masks)

    def _drawn(self, counts: Sequence[int], rng: np.random.Generator) -> Weights:
        """First weights, scaled for what masks of these counts keep, or as if nothing was cut."""
        if self.initialisation == "dense":
            counts = [tensor.size for tensor in self.plan.prunable]
        return initial_weights(self.plan, counts, rng)

    def _with_first_masks(
        self, state: ServerState, counts: Sequence[int], rng: np.random.Generator
    ) -> ServerState:
        """Draw the largest mask (of pretrained weights, the largest), and nest the lower levels."""
        if state.pretrained:
            mask = magnitude_mask(self.plan, state.weights.prunable, counts)
        else:
            mask = random_mask(self.plan, counts, rng)
        masks = nested_masks(self.plan, state.weights.prunable, mask, self.levels)
        weights = masked(state.weights, mask) if state.sensed else state.weights
        return replace(state, weights=weights, masks=masks)

    def _aggregate_masks(
        self, weights: Weights, reports: Sequence[SenseReport]
    ) -> dict[float, BoolArray]:
        """The largest aggregated weights of each layer, with the mean layer densities."""
        total = self.plan.kept(self.levels[0])
        counts = kept_counts(self.plan, self._mean_densities(reports), total)
        mask = magnitude_mask(self.plan, weights.prunable, counts)
        return nested_masks(self.plan, weights.prunable, mask, self.levels)

    def _mean_densities(self, reports: Sequence[SenseReport]) -> Float64Array:
        """`(tensors,)` layer densities, averaged by examples, each report scaled to one total."""
        if not reports:
            raise ValueError("no device reported its layer densities")
        sizes = np.asarray([tensor.size for tensor in self.plan.prunable], np.float64)
        scaled = [np.asarray(counts, np.float64) / (sum(counts) * sizes) for _, counts in reports]
        examples = [float(num_examples) for num_examples, _ in reports]
        return np.average(scaled, axis=0, weights=examples)
