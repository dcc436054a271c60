from __future__ import annotations

import numpy as np
import pytest

from fedsparse.plan import INPUT, Linear, Node, Plan
from fedsparse.sparsity.densities import (
    apportion,
    kept_counts,
    layer_slices,
    level_counts,
    uniform_counts,
)

# 40, 600 and 30 prunable weights.
PLAN = Plan(
    name="small",
    input_shape=(4,),
    nodes=(
        Node(name="a", operator=Linear(out_features=10), inputs=(INPUT,)),
        Node(name="b", operator=Linear(out_features=60), inputs=("a",)),
        Node(name="c", operator=Linear(out_features=5, prunable=False), inputs=("b",)),
        Node(name="d", operator=Linear(out_features=6), inputs=("c",)),
    ),
)


def test_layers_lie_one_after_the_other() -> None:
    assert layer_slices(PLAN) == (slice(0, 40), slice(40, 640), slice(640, 670))


def test_what_a_full_layer_cannot_take_goes_to_the_others_in_proportion() -> None:
    # Unclipped it would be 10 : 1 : 1 of the densities; the first layer is full at 40 of 67.
    counts = kept_counts(PLAN, [10.0, 0.1, 0.1], 67)
    assert counts == (40, 26, 1)  # the remaining 27 go 600 : 30; 1.29 of them to the last layer


def test_a_layer_with_no_density_keeps_one_weight() -> None:
    assert kept_counts(PLAN, [0.0, 1.0, 0.0], 100) == (1, 98, 1)


def test_layers_without_density_take_what_the_others_have_no_room_for() -> None:
    assert kept_counts(PLAN, [1.0, 0.0, 1.0], 670) == (40, 600, 30)
    assert kept_counts(PLAN, [1.0, 0.0, 1.0], 100) == (40, 30, 30)


def test_no_density_at_all_means_the_same_density_everywhere() -> None:
    assert kept_counts(PLAN, [0.0, 0.0, 0.0], 67) == uniform_counts(PLAN, 0.1) == (4, 60, 3)


def test_all_weights_or_one_a_layer_are_the_extremes() -> None:
    assert uniform_counts(PLAN, 1.0) == (40, 600, 30)
    assert uniform_counts(PLAN, 1e-6) == (1, 1, 1)


def test_a_level_never_exceeds_its_parent_in_any_layer() -> None:
    parent = (40, 1, 26)
    assert level_counts(PLAN, parent, 0.1) == parent
    assert level_counts(PLAN, parent, 33 / 670) == (19, 1, 13)  # 19.39 and 12.61 by proportion


def test_a_level_above_its_parent_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be divided"):
        level_counts(PLAN, (4, 60, 3), 0.2)


@pytest.mark.parametrize("share", [-1.0, float("nan"), float("inf")])
def test_a_share_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="shares must be"):
        apportion([1.0, share], 3, least=[0, 0], most=[5, 5])


def test_equal_remainders_go_to_the_earlier_part() -> None:
    assert apportion([1.0, 1.0, 1.0], 5, least=[0] * 3, most=[9] * 3) == (2, 2, 1)


def test_thousands_of_layers_of_unlike_sizes_meet_a_budget_of_billions() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 2_000_000, 2000).tolist()
    total = sum(sizes) // 3
    counts = apportion(rng.random(2000), total, least=[1] * 2000, most=sizes)
    assert sum(counts) == total
