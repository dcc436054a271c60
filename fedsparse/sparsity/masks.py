"""Which weights a mask keeps: exact counts per tensor, at random or by magnitude."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsparse.plan import Plan
from fedsparse.sparsity.densities import layer_slices, level_counts
from fedsparse.types import BoolArray, Float32Array


def largest(magnitudes: Float32Array, count: int) -> BoolArray:
    """Mark the `count` largest of `(n,)` magnitudes; of equal ones the earlier."""
    if count >= magnitudes.size:
        return np.ones(magnitudes.size, np.bool_)
    if count <= 0:
        return np.zeros(magnitudes.size, np.bool_)
    cut = magnitudes.size - count
    threshold = np.partition(magnitudes, cut)[cut]
    chosen: BoolArray = magnitudes > threshold
    ties = np.flatnonzero(magnitudes == threshold)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    return chosen


def random_mask(plan: Plan, counts: Sequence[int], rng: np.random.Generator) -> BoolArray:
    """A mask `(num_prunable,)` that keeps exactly `counts` positions, uniformly at random.

    Source: FLASH reference, get_rand_mask; deviation: exact counts, not Bernoulli draws.
    """
    mask = np.zeros(plan.num_prunable, np.bool_)
    for layer, count in _layers(plan, counts):
        size = layer.stop - layer.start
        mask[layer][rng.choice(size, count, replace=False, shuffle=False)] = True
    return mask


def magnitude_mask(
    plan: Plan, values: Float32Array, counts: Sequence[int], within: BoolArray | None = None
) -> BoolArray:
    """A mask that keeps the `counts` largest `|values|` of each prunable tensor.

    Args:
        plan: the model.
        values: `(num_prunable,)`; of equal magnitudes the earlier position is kept.
        counts: `(tensors,)`.
        within: `(num_prunable,)`; only positions of this mask may be kept.

    Raises:
        ValueError: a count exceeds its tensor, or what `within` offers of it.
    """
    mask = np.zeros(plan.num_prunable, np.bool_)
    for layer, count in _layers(plan, counts):
        magnitudes = np.abs(values[layer])
        if within is None:
            mask[layer] = largest(magnitudes, count)
            continue
        positions = np.flatnonzero(within[layer])
        if count > positions.size:
            raise ValueError(f"{count} weights asked of a mask that keeps {positions.size} there")
        mask[layer][positions[largest(magnitudes[positions], count)]] = True
    return mask


def salient_mask(plan: Plan, saliency: Float32Array, total: int) -> BoolArray:
    """A mask that keeps the `total` most salient weights of all tensors, and the top one of each.

    Args:
        plan: the model.
        saliency: `(num_prunable,)`, not negative; of equal ones the earlier is kept.
        total: at least the number of tensors; a smaller one gives a part of a larger one's mask.

    Source: SSFL (Ohib et al., TMLR 2026); deviation: no tensor is left empty.
    """
    mask = np.zeros(plan.num_prunable, np.bool_)
    for layer in layer_slices(plan):
        mask[layer.start + int(np.argmax(saliency[layer]))] = True
    others = np.flatnonzero(~mask)
    mask[others[largest(saliency[others], total - int(np.count_nonzero(mask)))]] = True
    return mask


def nested_masks(
    plan: Plan, values: Float32Array, parent_mask: BoolArray, levels: Sequence[float]
) -> dict[float, BoolArray]:
    """The masks of `levels`, each the top-|values| of the one above it.

    Args:
        plan: the model.
        values: `(num_prunable,)`, the server's weights.
        parent_mask: `(num_prunable,)`, above all `levels`; a level of its own density equals it.
        levels: densities, largest first.

    Source: hetero-FLASH; deviation: the counts of a level never exceed its parent's.
    """
    masks: dict[float, BoolArray] = {}
    mask, counts = parent_mask, counts_of(plan, parent_mask)
    for level in levels:
        counts = level_counts(plan, counts, level)
        mask = magnitude_mask(plan, values, counts, within=mask)
        masks[level] = mask
    return masks


def reference_level_masks(
    plan: Plan, values: Float32Array, parent_mask: BoolArray, levels: Sequence[float]
) -> dict[float, BoolArray]:
    """The masks of `levels` by the reference's own rule, for a side-by-side check.

    A lower level keeps in each tensor its share of the values that are not 0, rounded down, and
    the largest of them; neither the total nor nesting is exact.

    Args:
        plan: the model.
        values: `(num_prunable,)`, the server's weights.
        parent_mask: `(num_prunable,)`, of the largest level.
        levels: densities, largest first.

    Source: FLASH reference, get_next_round_mask (`aggregate`); deviation: every tensor keeps one.
    """
    nonzero = [int(np.count_nonzero(values[layer])) for layer in layer_slices(plan)]
    masks = {levels[0]: parent_mask}
    for level in levels[1:]:
        ratio = min(1.0, plan.num_prunable / max(1, sum(nonzero)) * level)
        masks[level] = magnitude_mask(plan, values, [max(1, int(n * ratio)) for n in nonzero])
    return masks


def counts_of(plan: Plan, mask: BoolArray) -> tuple[int, ...]:
    """Kept weights of a mask `(num_prunable,)` in each prunable tensor."""
    return tuple(int(np.count_nonzero(mask[layer])) for layer in layer_slices(plan))


def _layers(plan: Plan, counts: Sequence[int]) -> list[tuple[slice, int]]:
    layers = list(zip(layer_slices(plan), counts, strict=True))
    for tensor, (_, count) in zip(plan.prunable, layers, strict=True):
        if not 0 <= count <= tensor.size:
            raise ValueError(f"{tensor.name} has {tensor.size} weights and cannot keep {count}")
    return layers
