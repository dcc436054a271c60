"""How many weights each prunable tensor keeps: exact integer counts by water-filling.

The budget of a density is met to the weight. What a tensor cannot take, because it is full, goes to
the others in proportion, and every tensor keeps at least one weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fedsparse.plan import Plan
from fedsparse.types import Float64Array, IntArray

# A tensor whose share is 0 still takes what the others have no room for.
NO_SHARE: Final = 1e-12


def layer_slices(plan: Plan) -> tuple[slice, ...]:
    """Where each prunable tensor lies in a flat `(num_prunable,)` vector, in plan order."""
    ends = np.cumsum([tensor.size for tensor in plan.prunable]).tolist()
    return tuple(slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True))


def apportion(
    shares: Sequence[float] | Float64Array,
    total: int,
    *,
    least: Sequence[int],
    most: Sequence[int],
) -> tuple[int, ...]:
    """Divide `total` in proportion to `shares` within bounds (water-filling, largest remainder).

    With one scale `s` for all, a part is `clip(s * share, least, most)`, and the parts sum to
    `total`: what a bound takes or leaves goes to the parts that no bound holds, in proportion.
    Rounding moves a part by less than one; ties go to the earlier part.

    Args:
        shares: `(parts,)`, not negative; all 0 means in proportion to `most`.
        total: what to divide, from `sum(least)` to `sum(most)`.
        least: `(parts,)`, inclusive lower bounds.
        most: `(parts,)`, inclusive upper bounds.

    Returns:
        `(parts,)` counts that sum to `total` exactly.

    Raises:
        ValueError: a share is negative or not finite, or the bounds do not admit `total`.
    """
    weight = np.asarray(shares, np.float64)
    low, high = np.asarray(least, np.int64), np.asarray(most, np.int64)
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(f"shares must be finite and not negative, got {weight.tolist()}")
    if (low > high).any() or not low.sum() <= total <= high.sum():
        raise ValueError(f"{total} cannot be divided within {low.tolist()} and {high.tolist()}")
    if not weight.any():
        weight = high.astype(np.float64)
    weight = np.maximum(weight / max(weight.max(), 1e-300), NO_SHARE)
    return _rounded(_filled(weight, total, low, high), total, high)


def kept_counts(
    plan: Plan, densities: Sequence[float] | Float64Array, total: int
) -> tuple[int, ...]:
    """Kept weights per prunable tensor, in proportion to the given layer densities.

    Args:
        plan: the model.
        densities: `(tensors,)`, in plan order; only their ratios matter.
        total: `plan.kept(density)`, met exactly.

    Source: FLASH reference, get_avg_mask; deviation: the mass that a full layer cannot take goes to
    the others, and every layer keeps at least one weight.
    """
    sizes = [tensor.size for tensor in plan.prunable]
    shares = np.asarray(densities, np.float64) * np.asarray(sizes, np.float64)
    return apportion(shares, total, least=[1] * len(sizes), most=sizes)


def uniform_counts(plan: Plan, density: float) -> tuple[int, ...]:
    """Kept weights per prunable tensor when all have the same density in (0, 1]."""
    return kept_counts(plan, [1.0] * len(plan.prunable), plan.kept(density))


def level_counts(plan: Plan, parent_counts: Sequence[int], density: float) -> tuple[int, ...]:
    """Kept weights per prunable tensor at a lower level: the parent's profile, scaled down.

    No count exceeds the parent's, so that the level's mask can be nested; their sum is
    `plan.kept(density)` exactly.

    Raises:
        ValueError: the level keeps more than its parent.
    """
    least = [1] * len(parent_counts)
    return apportion(
        np.asarray(parent_counts, np.float64),
        plan.kept(density),
        least=least,
        most=parent_counts,
    )


def _filled(weight: Float64Array, total: int, low: IntArray, high: IntArray) -> Float64Array:
    """`clip(s * weight, low, high)` for the largest `s` whose sum does not exceed `total`."""
    below, above = 0.0, float((high / weight).max()) + 1.0
    while (middle := (below + above) / 2) not in (below, above):
        if np.clip(middle * weight, low, high).sum() > total:
            above = middle
        else:
            below = middle
    filled: Float64Array = np.clip(below * weight, low, high)
    return filled


def _rounded(parts: Float64Array, total: int, high: IntArray) -> tuple[int, ...]:
    """Round down, then give what is missing to the largest remainders that have room."""
    counts = np.floor(parts).astype(np.int64)
    order = np.argsort(counts - parts, kind="stable")
    while missing := total - int(counts.sum()):
        takers = order[counts[order] < high[order]][:missing]
        counts[takers] += 1
    return tuple(counts.tolist())
