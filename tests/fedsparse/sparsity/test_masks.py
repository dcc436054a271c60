from __future__ import annotations

import numpy as np
import pytest

from fedsparse.plan import INPUT, Linear, Node, Plan
from fedsparse.sparsity.densities import uniform_counts
from fedsparse.sparsity.masks import (
    counts_of,
    largest,
    magnitude_mask,
    nested_masks,
    random_mask,
)

PLAN = Plan(
    name="two",
    input_shape=(5,),
    nodes=(
        Node(name="a", operator=Linear(out_features=4), inputs=(INPUT,)),
        Node(name="b", operator=Linear(out_features=3), inputs=("a",)),
    ),
)  # 20 and 12 prunable weights


def test_every_position_is_kept_equally_often() -> None:
    rng = np.random.default_rng(0)
    draws = 4000
    times = sum(random_mask(PLAN, (5, 6), rng).astype(np.int64) for _ in range(draws))
    share = np.concatenate([np.full(20, 5 / 20), np.full(12, 6 / 12)])
    deviation = np.sqrt(draws * share * (1 - share))
    assert np.abs((times - draws * share) / deviation).max() < 5


@pytest.mark.parametrize("counts", [(21, 1), (-1, 3)])
def test_a_count_that_a_layer_cannot_keep_is_refused_by_name(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"a\.weight has 20 weights and cannot keep"):
        random_mask(PLAN, counts, np.random.default_rng(0))


def test_counts_must_be_given_for_every_layer() -> None:
    with pytest.raises(ValueError, match="zip"):
        random_mask(PLAN, (1, 1, 1), np.random.default_rng(0))


def test_magnitudes_are_compared_within_a_layer_not_across() -> None:
    values = np.concatenate([np.full(20, 9.0), np.arange(12)]).astype(np.float32)
    values[3] = -10.0
    mask = magnitude_mask(PLAN, values, (2, 3))
    assert np.flatnonzero(mask).tolist() == [0, 3, 29, 30, 31]


def test_only_positions_within_the_given_mask_are_kept() -> None:
    values = np.arange(32, dtype=np.float32)
    within = np.zeros(32, np.bool_)
    within[[0, 2, 4, 20, 31]] = True
    mask = magnitude_mask(PLAN, values, (2, 1), within=within)
    assert np.flatnonzero(mask).tolist() == [2, 4, 31]


def test_more_than_the_given_mask_offers_is_refused() -> None:
    within = np.zeros(32, np.bool_)
    within[[0, 20]] = True
    with pytest.raises(ValueError, match="2 weights asked of a mask that keeps 1"):
        magnitude_mask(PLAN, np.ones(32, np.float32), (2, 1), within=within)


def test_zeros_inside_the_given_mask_are_kept_before_anything_outside() -> None:
    values = np.ones(32, np.float32)
    within = np.zeros(32, np.bool_)
    within[[7, 8, 25]] = True
    values[within] = 0.0
    assert np.flatnonzero(magnitude_mask(PLAN, values, (2, 1), within=within)).tolist() == [
        7,
        8,
        25,
    ]


def test_a_level_above_its_parent_cannot_be_nested() -> None:
    parent = random_mask(PLAN, uniform_counts(PLAN, 0.25), np.random.default_rng(0))
    with pytest.raises(ValueError, match="cannot be divided"):
        nested_masks(PLAN, np.ones(32, np.float32), parent, [0.5])


def test_counts_are_read_back_from_a_mask() -> None:
    mask = np.zeros(32, np.bool_)
    mask[[0, 19, 20, 21, 31]] = True
    assert counts_of(PLAN, mask) == (2, 3)


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (2, 2), (3, 3), (7, 3)])
def test_at_most_all_are_the_largest(count: int, kept: int) -> None:
    assert largest(np.ones(3, np.float32), count).sum() == kept
