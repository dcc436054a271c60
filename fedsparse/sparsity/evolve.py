"""Drop and grow: how a device moves its mask while it trains."""

from __future__ import annotations

from typing import Final

import numpy as np

from fedsparse.plan import Plan
from fedsparse.sparsity.densities import apportion, layer_slices
from fedsparse.sparsity.masks import counts_of, largest
from fedsparse.types import BoolArray, Float32Array

DRAWS: Final = 16_384


def drop_and_grow(
    plan: Plan, mask: BoolArray, kept: Float32Array, rate: float, rng: np.random.Generator
) -> tuple[BoolArray, Float32Array]:
    """Drop the smallest kept weights of every layer and grow as many elsewhere, with value 0.

    A layer with `nnz` weights drops the `rate * nnz` smallest magnitudes (rounded, and never its
    last weight). What all layers dropped is divided among them in proportion to the mean magnitude
    of their remaining weights, as far as each has room. A layer grows at random positions: first
    at those that the old mask did not keep, and at the ones just dropped only when none is left.

    Args:
        plan: the model.
        mask: `(num_prunable,)`; not changed.
        kept: `(nnz,)`, its values in plan order; not changed.
        rate: share to exchange, in [0, 1].
        rng: source of the new positions.

    Returns:
        The new mask and its values; it keeps as many weights as the old one.

    Raises:
        ValueError: `kept` does not fit the mask, or the rate is out of range.

    Source: FLASH reference, core.py (prune, calc_growth_redistribution, growth); deviations: the
    total is exact, and the means are taken after the drop.
    """
    counts = counts_of(plan, mask)
    if kept.shape != (sum(counts),) or not 0 <= rate <= 1:
        raise ValueError(f"{kept.shape} values under a mask of {sum(counts)}, rate {rate}")
    values = np.split(kept, np.cumsum(counts)[:-1])
    remain = [largest(np.abs(v), v.size - min(round(rate * v.size), v.size - 1)) for v in values]
    grown = _growth(plan, values, remain)
    new_mask, new_values = np.empty_like(mask), []
    for layer, value, remains, count in zip(layer_slices(plan), values, remain, grown, strict=True):
        new_mask[layer], moved = _move_layer(mask[layer], value, remains, count, rng)
        new_values.append(moved)
    return new_mask, np.concatenate(new_values)


def _growth(plan: Plan, values: list[Float32Array], remain: list[BoolArray]) -> tuple[int, ...]:
    """How many weights each layer grows; their sum is what all layers dropped."""
    means = [
        float(np.abs(value[remains]).mean(dtype=np.float64)) if remains.any() else 0.0
        for value, remains in zip(values, remain, strict=True)
    ]
    held = [int(np.count_nonzero(remains)) for remains in remain]
    room = [tensor.size - count for tensor, count in zip(plan.prunable, held, strict=True)]
    freed = sum(value.size for value in values) - sum(held)
    return apportion(means, freed, least=[0] * len(room), most=room)


def _move_layer(
    mask: BoolArray,
    value: Float32Array,
    remains: BoolArray,
    count: int,
    rng: np.random.Generator,
) -> tuple[BoolArray, Float32Array]:
    """One layer's new mask and values: `remains` of the old weights, and `count` new ones."""
    stays = mask.copy()
    stays[mask] = remains
    moved = stays.copy()
    room = mask.size - int(np.count_nonzero(mask))
    _grow(moved, mask, min(count, room), rng)
    _grow(moved, None, max(0, count - room), rng)
    new_value = np.zeros(np.count_nonzero(moved), np.float32)
    new_value[stays[moved]] = value[remains]
    return moved, new_value


def _grow(moved: BoolArray, avoid: BoolArray | None, count: int, rng: np.random.Generator) -> None:
    """Mark `count` further positions, outside `avoid`, all sets of them equally likely; in place.

    A position that is taken is drawn anew: a list of the free ones would take more memory than
    anything else in a trainer's round.
    """
    while count > 0:
        drawn = rng.integers(0, moved.size, DRAWS, dtype=np.int32)
        free = ~moved[drawn]
        if avoid is not None:
            free &= ~avoid[drawn]
        drawn = drawn[free]
        _, first = np.unique(drawn, return_index=True)
        taken = drawn[np.sort(first)[:count]]
        moved[taken] = True
        count -= taken.size
