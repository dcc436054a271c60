"""Masks as mathematics: exact budgets, nesting, water-filling, drop-and-grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.plan import INPUT, Linear, Node, Plan
from fedsparse.sparsity.densities import (
    apportion,
    kept_counts,
    layer_slices,
    level_counts,
    uniform_counts,
)
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import counts_of, magnitude_mask, nested_masks, random_mask

DENSITIES = st.floats(0.01, 1.0)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A chain of linear layers of unlike sizes, some of them not pruned."""
    widths = [*draw(st.lists(st.integers(1, 20), min_size=1, max_size=4)), draw(st.integers(2, 9))]
    pruned = draw(st.lists(st.booleans(), min_size=len(widths), max_size=len(widths)))
    pruned[draw(st.integers(0, len(widths) - 1))] = True
    names = [INPUT, *(f"fc{index}" for index in range(len(widths)))]
    return Plan(
        name="chain",
        input_shape=(draw(st.integers(1, 20)),),
        nodes=tuple(
            Node(name=name, operator=Linear(out_features=width, prunable=prune), inputs=(source,))
            for name, source, width, prune in zip(names[1:], names, widths, pruned, strict=False)
        ),
    )


@st.composite
def divisions(draw: st.DrawFn) -> tuple[list[float], int, list[int], list[int]]:
    """Shares, a total, and bounds that admit it."""
    parts = draw(st.integers(1, 8))
    shares = draw(st.lists(st.floats(0, 1e6), min_size=parts, max_size=parts))
    bounds = st.lists(st.integers(0, 500), min_size=parts, max_size=parts)
    low, more = draw(bounds), draw(bounds)
    high = [a + b for a, b in zip(low, more, strict=True)]
    return shares, draw(st.integers(sum(low), sum(high))), low, high


@settings(deadline=None)
@given(divisions())
def test_a_division_meets_its_total_and_its_bounds(
    division: tuple[list[float], int, list[int], list[int]],
) -> None:
    shares, total, low, high = division
    counts = apportion(shares, total, least=low, most=high)
    assert sum(counts) == total
    assert all(a <= count <= b for a, count, b in zip(low, counts, high, strict=True))


@settings(deadline=None)
@given(divisions())
def test_parts_between_their_bounds_are_in_proportion_to_their_shares(
    division: tuple[list[float], int, list[int], list[int]],
) -> None:
    shares, total, low, high = division
    counts = apportion(shares, total, least=low, most=high)
    floor = max(shares) * 1e-12
    parts = [
        (share, count, a, b)
        for share, count, a, b in zip(shares, counts, low, high, strict=True)
        if share > floor
    ]
    # One scale s must exist with |count - clip(s * share, low, high)| < 1 for every part.
    least = max([(c - 1) / w for w, c, a, _ in parts if c > a], default=0.0)
    most = min([(c + 1) / w for w, c, _, b in parts if c < b], default=np.inf)
    assert least <= most * (1 + 1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6), st.floats(1e-30, 1e30))
def test_only_the_ratios_of_the_shares_matter(shares: list[float], scale: float) -> None:
    bounds = {"least": [1] * len(shares), "most": [100] * len(shares)}
    plain = apportion(shares, 50 * len(shares), **bounds)
    scaled = apportion([scale * share for share in shares], 50 * len(shares), **bounds)
    assert np.abs(np.subtract(plain, scaled)).max() <= 1


@settings(deadline=None)
@given(plans(), DENSITIES, st.data())
def test_layer_counts_meet_the_budget_whatever_the_densities(
    plan: Plan, density: float, data: st.DataObject
) -> None:
    tensors = len(plan.prunable)
    found = data.draw(st.lists(st.floats(0, 3), min_size=tensors, max_size=tensors))
    counts = kept_counts(plan, found, plan.kept(density))
    assert sum(counts) == plan.kept(density)
    assert all(1 <= c <= t.size for c, t in zip(counts, plan.prunable, strict=True))


@settings(deadline=None)
@given(plans(), DENSITIES)
def test_uniform_counts_differ_from_one_density_by_less_than_a_weight_unless_at_the_floor(
    plan: Plan, density: float
) -> None:
    counts = uniform_counts(plan, density)
    free = [(c, t.size) for c, t in zip(counts, plan.prunable, strict=True) if c > 1]
    if len(free) == len(counts):
        scale = sum(counts) / plan.num_prunable
        assert all(abs(count - scale * size) < 1 for count, size in free)


@settings(deadline=None)
@given(plans(), st.lists(DENSITIES, min_size=1, max_size=4, unique=True), SEEDS)
def test_levels_are_exact_nested_and_keep_the_largest(
    plan: Plan, levels: list[float], seed: int
) -> None:
    levels = sorted(levels, reverse=True)
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(plan.num_prunable, np.float32)
    parent = random_mask(plan, uniform_counts(plan, levels[0]), rng)
    masks = nested_masks(plan, values, parent, levels)
    assert np.array_equal(masks[levels[0]], parent)
    above = parent
    for level in levels:
        mask = masks[level]
        assert mask.sum() == plan.kept(level)
        assert not (mask & ~above).any()
        for layer in layer_slices(plan):
            inside, outside = mask[layer], above[layer] & ~mask[layer]
            assert inside.any()
            if outside.any():
                assert np.abs(values[layer][inside]).min() >= np.abs(values[layer][outside]).max()
        above = mask


@settings(deadline=None)
@given(plans(), DENSITIES, DENSITIES)
def test_a_level_keeps_its_parents_profile(plan: Plan, one: float, other: float) -> None:
    upper, lower = max(one, other), min(one, other)
    parent = uniform_counts(plan, upper)
    counts = level_counts(plan, parent, lower)
    ratio = sum(counts) / sum(parent)
    if min(counts) > 1:
        assert all(abs(c - ratio * p) < 1 for c, p in zip(counts, parent, strict=True))


@settings(deadline=None)
@given(plans(), DENSITIES, SEEDS)
def test_a_random_mask_keeps_exactly_its_counts(plan: Plan, density: float, seed: int) -> None:
    counts = uniform_counts(plan, density)
    mask = random_mask(plan, counts, np.random.default_rng(seed))
    assert counts_of(plan, mask) == counts
    assert np.array_equal(mask, random_mask(plan, counts, np.random.default_rng(seed)))


@settings(deadline=None)
@given(plans(), DENSITIES, st.integers(0, 3), SEEDS)
def test_a_magnitude_mask_is_exact_among_ties_and_takes_the_earlier(
    plan: Plan, density: float, values_in_use: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-values_in_use, values_in_use + 1, plan.num_prunable).astype(np.float32)
    counts = uniform_counts(plan, density)
    mask = magnitude_mask(plan, values, counts)
    for layer, count in zip(layer_slices(plan), counts, strict=True):
        expected = np.argsort(-np.abs(values[layer]), kind="stable")[:count]
        assert np.array_equal(np.flatnonzero(mask[layer]), np.sort(expected))


@settings(deadline=None)
@given(plans(), DENSITIES, st.floats(0, 1), SEEDS)
def test_drop_and_grow_moves_weights_but_keeps_their_number(
    plan: Plan, density: float, rate: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = random_mask(plan, uniform_counts(plan, density), rng)
    values = rng.standard_normal(plan.num_prunable, np.float32)
    old = np.where(mask, values, np.float32(0))
    before = mask.copy()

    moved, kept = drop_and_grow(plan, mask, values[mask], rate, rng)

    assert np.array_equal(mask, before)
    assert moved.sum() == mask.sum()
    assert min(counts_of(plan, moved)) >= 1
    new = np.zeros_like(values)
    new[moved] = kept
    for layer in layer_slices(plan):
        was, now, w = mask[layer], moved[layer], old[layer]
        dropped = min(round(rate * was.sum()), was.sum() - 1)
        survived = now & (new[layer] != 0)
        assert survived.sum() == was.sum() - dropped
        assert np.array_equal(new[layer][survived], w[survived])  # survivors keep their values
        lost = was & ~survived
        if lost.any():  # the smallest went
            assert np.abs(w[lost]).max() <= np.abs(w[survived]).min()
        if (now & lost).any():  # a dropped position returns only when no other is left
            assert (was | now).all()


@settings(deadline=None)
@given(plans(), DENSITIES, SEEDS)
def test_drop_and_grow_at_rate_zero_is_the_identity(plan: Plan, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = random_mask(plan, uniform_counts(plan, density), rng)
    kept = rng.standard_normal(int(mask.sum()), np.float32)
    moved, values = drop_and_grow(plan, mask, kept, 0.0, rng)
    assert np.array_equal(moved, mask)
    assert np.array_equal(values, kept)


@settings(deadline=None)
@given(divisions())
def test_a_total_outside_the_bounds_is_refused(
    division: tuple[list[float], int, list[int], list[int]],
) -> None:
    shares, _, low, high = division
    for total in (sum(low) - 1, sum(high) + 1):
        with pytest.raises(ValueError, match="cannot be divided"):
            apportion(shares, total, least=low, most=high)
