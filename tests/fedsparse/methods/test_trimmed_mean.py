from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.methods.trimmed_mean import Block, block_size, left_out, trimmed_mean
from fedsparse.types import BoolArray, Float32Array, Float64Array

PARAMS = 37
PREVIOUS = np.arange(100, 100 + PARAMS, dtype=np.float32)
STALE = (1.0, 0.5**0.5, 1 / 3)


@dataclass
class Held:
    """A client whose values are in memory: at all coordinates, and which of them it holds."""

    holds: BoolArray
    values: Float32Array
    weight: float = 1.0

    def blocks(self, size: int) -> Iterator[Block]:
        for start in range(0, self.values.size, size):
            here = slice(start, start + size)
            yield self.holds[here], self.values[here][self.holds[here]]


@st.composite
def cohorts(draw: st.DrawFn) -> list[Held]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.2, 0.6, 1.0]))
    # Few different values, so that some are equal.
    digits = draw(st.sampled_from([0, 6]))
    weights = draw(st.lists(st.sampled_from(STALE), min_size=1, max_size=12))
    return [
        Held(
            rng.random(PARAMS) < share,
            rng.standard_normal(PARAMS).round(digits).astype(np.float32),
            weight,
        )
        for weight in weights
    ]


def oracle(cohort: list[Held], trim: float) -> Float64Array:
    """One coordinate after the other, as the paper has it."""
    result = PREVIOUS.astype(np.float64)
    for j in range(PARAMS):
        found = sorted((one.values[j], one.weight) for one in cohort if one.holds[j])
        k = int(trim * 1000) * len(found) // 1000
        if found:
            left = found[k : len(found) - k]
            result[j] = sum(v * w for v, w in left) / sum(w for _, w in left)
    return result


@settings(deadline=None)
@given(cohorts(), st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.499]))
def test_the_trimmed_mean_is_the_oracles(cohort: list[Held], trim: float) -> None:
    found = trimmed_mean(cohort, PREVIOUS, trim)
    np.testing.assert_allclose(found, oracle(cohort, trim), rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(cohorts(), st.randoms(use_true_random=False), st.integers(1, 400))
def test_neither_the_order_of_clients_nor_the_size_of_blocks_changes_a_bit(
    cohort: list[Held], random: object, most_values: int
) -> None:
    expected = trimmed_mean(cohort, PREVIOUS, 0.2)
    shuffled = list(cohort)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert np.array_equal(trimmed_mean(shuffled, PREVIOUS, 0.2, most_values), expected)


@settings(deadline=None)
@given(cohorts())
def test_nothing_is_left_out_at_a_share_of_0(cohort: list[Held]) -> None:
    held = np.array([one.holds for one in cohort]) * np.array([[one.weight] for one in cohort])
    values = np.array([one.values for one in cohort], np.float64)
    weight = held.sum(axis=0)
    mean = (held * values).sum(axis=0) / np.where(weight > 0, weight, 1)
    expected = np.where(weight > 0, mean, PREVIOUS)
    np.testing.assert_allclose(trimmed_mean(cohort, PREVIOUS, 0.0), expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(
    cohorts(),
    st.integers(0, 4),
    st.floats(1e-3, 0.499),
    st.sampled_from([-1e6, -1.0, 0.0, 1e6]),
    st.integers(0, 2**32 - 1),
)
def test_attackers_within_the_trim_share_move_no_coordinate_beyond_honest_values(
    honest: list[Held], attackers: int, trim: float, lie: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    lies = [
        Held(rng.random(PARAMS) < 0.7, np.float32(lie) * rng.random(PARAMS, np.float32))
        for _ in range(attackers)
    ]
    found = trimmed_mean([*honest, *lies], PREVIOUS, trim)
    for j in range(PARAMS):
        values = [one.values[j] for one in honest if one.holds[j]]
        liars = sum(one.holds[j] for one in lies)
        if values and liars <= left_out(trim, len(values) + liars):
            slack = 1e-6 * max(1, *map(abs, values))
            assert min(values) - slack <= found[j] <= max(values) + slack


def test_one_attacker_more_than_the_trim_share_moves_the_mean_beyond_honest_values() -> None:
    every, trim = np.ones(PARAMS, np.bool_), 0.2
    honest = [Held(every, np.zeros(PARAMS, np.float32)) for _ in range(8)]
    liar = Held(every, np.full(PARAMS, 1e3, np.float32))
    assert np.array_equal(trimmed_mean([*honest, liar, liar], PREVIOUS, trim), np.zeros(PARAMS))
    assert (trimmed_mean([*honest, liar, liar, liar], PREVIOUS, trim) > 100).all()


@pytest.mark.parametrize(
    ("trim", "holders", "expected"),
    [(0.1, 9, 0), (0.1, 10, 1), (0.29, 100, 29), (0.07, 100, 7), (0.49, 3, 1), (0.499, 2, 0)],
)
def test_a_share_is_that_of_whole_clients(trim: float, holders: int, expected: int) -> None:
    assert left_out(trim, holders) == expected
    cohort = [
        Held(np.ones(PARAMS, np.bool_), np.full(PARAMS, float(n > 0), np.float32))
        for n in range(holders)
    ]
    left = holders - 2 * expected
    mean = (left - (expected == 0)) / left  # whether the only 0 is left out
    assert np.allclose(trimmed_mean(cohort, PREVIOUS, trim), mean)


def test_a_coordinate_that_nobody_holds_keeps_its_value() -> None:
    none = Held(np.zeros(PARAMS, np.bool_), np.ones(PARAMS, np.float32))
    assert np.array_equal(trimmed_mean([none, none], PREVIOUS, 0.1), PREVIOUS)
    assert np.array_equal(trimmed_mean([], PREVIOUS, 0.1), PREVIOUS)


@pytest.mark.parametrize(("weights", "bytes_each"), [((1.0,), 14), ((1.0, 0.5), 32)])
def test_memory_is_that_of_a_block_whatever_the_cohort(
    weights: tuple[float, ...], bytes_each: int
) -> None:
    params, most = 200_000, 1 << 17
    values = np.linspace(-1, 1, params, dtype=np.float32)
    holds = np.ones(params, np.bool_)
    peaks = []
    for clients in (10, 80):
        cohort = [
            Held(holds, values, weight)
            for weight in itertools.islice(itertools.cycle(weights), clients)
        ]
        tracemalloc.start()
        trimmed_mean(cohort, values, 0.1, most)
        peaks.append(tracemalloc.get_traced_memory()[1] - 4 * params)  # but for the result
        tracemalloc.stop()
    assert max(peaks) < bytes_each * most
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("clients", [1, 10, 1_000, 10**6, 10**9])
def test_blocks_begin_at_whole_bytes_of_a_packed_mask(clients: int) -> None:
    size = block_size(clients)
    assert size > 0
    assert size % 8 == 0
    assert size == 8 or size * clients <= 1 << 20
