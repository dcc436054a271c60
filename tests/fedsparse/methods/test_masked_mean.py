from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.methods.masked_mean import MaskedMean
from fedsparse.types import BoolArray, Float32Array, Weights

PRUNABLE, DENSE = 12, 3
Client = tuple[BoolArray, Float32Array, int]  # mask, values at all coordinates, examples


@st.composite
def cohorts(draw: st.DrawFn) -> list[Client]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.2, 0.5, 1.0]))
    return [
        (
            np.concatenate([rng.random(PRUNABLE) < share, np.ones(DENSE, np.bool_)]),
            rng.standard_normal(PRUNABLE + DENSE, np.float32),
            examples,
        )
        for examples in draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
    ]


def split(values: Float32Array) -> Weights:
    return Weights(prunable=values[:PRUNABLE], dense=values[PRUNABLE:])


def fold(cohort: list[Client], previous: Float32Array) -> Float32Array:
    mean = MaskedMean(PRUNABLE, DENSE)
    for mask, values, examples in cohort:
        kept = np.flatnonzero(mask[:PRUNABLE])
        mean.add(kept, Weights(prunable=values[kept], dense=values[PRUNABLE:]), examples)
    result = mean.result(split(previous))
    return np.concatenate([result.prunable, result.dense])


PREVIOUS = np.arange(100, 100 + PRUNABLE + DENSE, dtype=np.float32)


@settings(deadline=None)
@given(cohorts())
def test_the_mean_is_the_dense_oracles(cohort: list[Client]) -> None:
    masks = np.stack([mask for mask, _, _ in cohort]).astype(np.float64)
    values = np.stack([values for _, values, _ in cohort]).astype(np.float64)
    weight = masks * np.array([[examples] for _, _, examples in cohort])
    held = weight.sum(0) > 0
    oracle = PREVIOUS.astype(np.float64)
    oracle[held] = (weight * values).sum(0)[held] / weight.sum(0)[held]
    np.testing.assert_allclose(fold(cohort, PREVIOUS), oracle, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(cohorts())
def test_clients_that_agree_are_reproduced_to_the_bit(cohort: list[Client]) -> None:
    values = cohort[0][1]
    same = [(mask, values, examples) for mask, _, examples in cohort]
    held = np.any([mask for mask, _, _ in cohort], axis=0)
    assert np.array_equal(fold(same, PREVIOUS), np.where(held, values, PREVIOUS))


@settings(deadline=None)
@given(cohorts(), st.randoms(use_true_random=False))
def test_the_order_of_clients_does_not_matter(cohort: list[Client], random: object) -> None:
    shuffled = list(cohort)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        fold(cohort, PREVIOUS), fold(shuffled, PREVIOUS), rtol=1e-6, atol=1e-6
    )
    assert np.array_equal(fold(cohort, PREVIOUS), fold(list(cohort), PREVIOUS))


@settings(deadline=None)
@given(cohorts())
def test_equal_examples_give_the_references_mean_of_holders(cohort: list[Client]) -> None:
    equal = [(mask, values, 7) for mask, values, _ in cohort]
    total = np.sum([np.where(mask, values, np.float64(0)) for mask, values, _ in equal], axis=0)
    holders = np.sum([mask for mask, _, _ in equal], axis=0)
    held = holders > 0
    result = fold(equal, PREVIOUS)
    np.testing.assert_allclose(result[held], total[held] / holders[held], rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(cohorts())
def test_the_reference_counts_every_client_once_and_forgets_what_nobody_holds(
    cohort: list[Client],
) -> None:
    mean = MaskedMean(PRUNABLE, DENSE, reference_compat=True)
    for mask, values, examples in cohort:
        kept = np.flatnonzero(mask[:PRUNABLE])
        mean.add(kept, Weights(prunable=values[kept], dense=values[PRUNABLE:]), examples)
    result = mean.result(split(PREVIOUS))
    equal = [(mask, values, 1) for mask, values, _ in cohort]
    expected = fold(equal, np.zeros_like(PREVIOUS))
    assert np.array_equal(np.concatenate([result.prunable, result.dense]), expected)


@pytest.mark.parametrize("holders", [1, 2, 3, 4])
def test_over_all_equally_likely_holders_the_mean_is_that_of_everybody(holders: int) -> None:
    values = np.array([1.0, -2.0, 7.0, 10.0], np.float32)
    means = []
    for chosen in itertools.combinations(values, holders):
        mean = MaskedMean(1, 0)
        for value in chosen:
            mean.add(np.array([0]), split_one(value), 5)
        means.append(mean.result(split_one(0.0)).prunable[0])
    assert np.mean(means) == pytest.approx(values.mean())


def split_one(value: float) -> Weights:
    return Weights(prunable=np.array([value], np.float32), dense=np.empty(0, np.float32))


def test_a_coordinate_that_nobody_holds_keeps_its_value() -> None:
    mean = MaskedMean(3, 1)
    mean.add(
        np.array([1]),
        Weights(prunable=np.array([5], np.float32), dense=np.array([2], np.float32)),
        4,
    )
    result = mean.result(
        Weights(prunable=np.array([7, 8, 9], np.float32), dense=np.array([1], np.float32))
    )
    assert result.prunable.tolist() == [7, 5, 9]
    assert result.dense.tolist() == [2]


def test_without_updates_everything_keeps_its_value() -> None:
    assert np.array_equal(fold([], PREVIOUS), PREVIOUS)


def test_the_previous_weights_are_not_changed() -> None:
    previous = PREVIOUS.copy()
    client = (np.ones(PRUNABLE + DENSE, np.bool_), np.zeros(PRUNABLE + DENSE, np.float32), 1)
    fold([client], previous)
    assert np.array_equal(previous, PREVIOUS)


def test_thousands_of_large_clients_do_not_lose_precision() -> None:
    mean = MaskedMean(1, 0)
    for value in np.tile(np.array([1e6, 1e-3], np.float32), 5000):
        mean.add(np.array([0]), split_one(value), 10**6)
    assert mean.result(split_one(0.0)).prunable[0] == np.float32((1e6 + np.float32(1e-3)) / 2)


@pytest.mark.parametrize(
    ("kept", "dense", "examples", "complaint"),
    [(1, 3, 1, "positions"), (2, 2, 1, "dense values"), (2, 3, 0, "num_examples")],
)
def test_an_update_that_does_not_fit_is_refused(
    kept: int, dense: int, examples: int, complaint: str
) -> None:
    mean = MaskedMean(PRUNABLE, DENSE)
    update = Weights(prunable=np.ones(2, np.float32), dense=np.ones(dense, np.float32))
    with pytest.raises(ValueError, match=complaint):
        mean.add(np.arange(kept), update, examples)
