from __future__ import annotations

import numpy as np
import pytest

from fedsparse.plan import INPUT, Linear, Node, Plan
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import counts_of, random_mask
from fedsparse.types import BoolArray, Float32Array

PLAN = Plan(
    name="two",
    input_shape=(10,),
    nodes=(
        Node(name="a", operator=Linear(out_features=20), inputs=(INPUT,)),
        Node(name="b", operator=Linear(out_features=10), inputs=("a",)),
    ),
)  # 200 weights each


def start(counts: tuple[int, int], values: tuple[float, float]) -> tuple[BoolArray, Float32Array]:
    mask = random_mask(PLAN, counts, np.random.default_rng(1))
    return mask, np.repeat(np.array(values, np.float32), counts)


def test_the_freed_budget_follows_the_mean_magnitudes() -> None:
    mask, kept = start((40, 40), (3.0, -1.0))
    moved, _ = drop_and_grow(PLAN, mask, kept, 0.5, np.random.default_rng(0))
    assert counts_of(PLAN, moved) == (20 + 30, 20 + 10)


def test_a_full_layer_passes_its_share_on() -> None:
    mask, kept = start((190, 40), (1e6, 1.0))
    moved, _ = drop_and_grow(PLAN, mask, kept, 0.1, np.random.default_rng(0))
    assert counts_of(PLAN, moved) == (194, 36)  # 23 dropped: most of them to the first layer
    moved, _ = drop_and_grow(PLAN, mask, kept, 0.5, np.random.default_rng(0))
    assert counts_of(PLAN, moved) == (200, 30)  # it has room for 105 of 115


def test_a_full_layer_grows_its_dropped_positions_again_at_zero() -> None:
    mask, kept = start((200, 200), (1.0, 1.0))
    moved, values = drop_and_grow(PLAN, mask, kept, 0.25, np.random.default_rng(0))
    assert moved.all()
    assert np.count_nonzero(values == 0) == 100


def test_a_layer_of_one_weight_keeps_it() -> None:
    mask, kept = start((1, 1), (1e-9, 5.0))
    moved, values = drop_and_grow(PLAN, mask, kept, 1.0, np.random.default_rng(0))
    assert np.array_equal(moved, mask)
    assert np.array_equal(values, kept)


def test_everything_may_be_zero() -> None:
    mask, kept = start((50, 30), (0.0, 0.0))
    moved, values = drop_and_grow(PLAN, mask, kept, 0.3, np.random.default_rng(0))
    assert moved.sum() == 80
    assert not values.any()


def test_growth_is_uniform_over_the_positions_not_kept() -> None:
    mask, kept = start((40, 40), (1.0, 1.0))
    rng = np.random.default_rng(2)
    draws = 500
    times = np.zeros(400)
    for _ in range(draws):
        times += drop_and_grow(PLAN, mask, kept, 0.5, rng)[0] & ~mask
    share = 20 / 160  # of both layers
    deviation = np.sqrt(draws * share * (1 - share))
    assert np.abs((times[~mask] - draws * share) / deviation).max() < 5


def test_the_same_seed_moves_the_same_weights() -> None:
    mask, kept = start((40, 40), (1.0, 2.0))
    moves = [drop_and_grow(PLAN, mask, kept, 0.5, np.random.default_rng(7)) for _ in range(2)]
    assert np.array_equal(moves[0][0], moves[1][0])
    other = drop_and_grow(PLAN, mask, kept, 0.5, np.random.default_rng(8))[0]
    assert not np.array_equal(moves[0][0], other)


@pytest.mark.parametrize(("size", "rate"), [(79, 0.1), (80, -0.1), (80, 1.1)])
def test_values_that_do_not_fit_the_mask_and_bad_rates_are_refused(size: int, rate: float) -> None:
    mask, _ = start((40, 40), (1.0, 1.0))
    with pytest.raises(ValueError, match="rate"):
        drop_and_grow(PLAN, mask, np.ones(size, np.float32), rate, np.random.default_rng(0))
