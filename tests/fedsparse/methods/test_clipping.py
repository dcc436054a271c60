from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.methods.clipping import change_norm, shrinkage, shrunk
from fedsparse.methods.masked_mean import MaskedMean
from fedsparse.types import Float32Array, Weights

PARAMS = 29
NONE = np.empty(0, np.float32)


@st.composite
def changes(draw: st.DrawFn) -> tuple[Float32Array, Float32Array]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = np.float32(10.0 ** draw(st.integers(-6, 6)))
    before = rng.standard_normal(PARAMS, np.float32)
    return before, before + scale * rng.standard_normal(PARAMS, np.float32)


def clipped(before: Float32Array, after: Float32Array, bound: float) -> Float32Array:
    return shrunk(before, after, shrinkage(change_norm(before, after), bound))


@settings(deadline=None)
@given(changes(), st.floats(1e-3, 1e3))
def test_a_clipped_change_is_no_longer_than_the_bound_and_points_the_same_way(
    change: tuple[Float32Array, Float32Array], bound: float
) -> None:
    before, after = change
    left = clipped(before, after, bound)
    rounding = 1e-6 * (1 + np.abs(before).max()) * PARAMS**0.5
    assert change_norm(before, left) <= bound + rounding
    wanted = (after.astype(np.float64) - before) * min(1.0, bound / change_norm(before, after))
    np.testing.assert_allclose(left.astype(np.float64) - before, wanted, atol=rounding)


@settings(deadline=None)
@given(changes())
def test_a_change_within_the_bound_is_left_as_it_is(
    change: tuple[Float32Array, Float32Array],
) -> None:
    before, after = change
    assert clipped(before, after, change_norm(before, after)) is after
    assert np.array_equal(clipped(before, before.copy(), 1e-9), before)


def mean_of(before: Float32Array, updates: list[tuple[Float32Array, int]]) -> Float32Array:
    mean = MaskedMean(PARAMS, 0)
    for after, examples in updates:
        values = clipped(before, after, 1.0)
        mean.add(np.arange(PARAMS), Weights(prunable=values, dense=NONE), examples)
    return mean.result(Weights(prunable=before, dense=NONE)).prunable


@settings(deadline=None)
@given(changes(), st.lists(st.integers(1, 1000), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_no_client_moves_the_mean_by_more_than_its_share_of_twice_the_bound(
    change: tuple[Float32Array, Float32Array], examples: list[int], seed: int
) -> None:
    before, attack = change
    rng = np.random.default_rng(seed)
    honest = [(before + rng.standard_normal(PARAMS, np.float32), number) for number in examples]
    without = mean_of(before, honest)
    with_attack = mean_of(before, [(attack, examples[0]), *honest[1:]])
    share = examples[0] / sum(examples)
    rounding = 1e-5 * (1 + np.abs(before).max()) * PARAMS**0.5
    assert change_norm(without, with_attack) <= 2 * share + rounding
    assert change_norm(before, with_attack) <= 1 + rounding


@pytest.mark.parametrize(("norm", "factor"), [(0.0, 1.0), (2.0, 1.0), (4.0, 0.5), (2e6, 1e-6)])
def test_the_shrinkage_is_that_of_the_paper(norm: float, factor: float) -> None:
    assert shrinkage(norm, 2.0) == pytest.approx(factor)


def test_lengths_of_many_small_changes_do_not_lose_any() -> None:
    before = np.zeros(10**6, np.float32)
    after = np.full(10**6, 1e-3, np.float32)
    assert change_norm(before, after) == pytest.approx(1.0, rel=1e-6)
