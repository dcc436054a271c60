from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.methods.schedule import learning_rate, linear_decay


@settings(deadline=None)
@given(st.integers(2, 2000), st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_the_learning_rate_starts_and_ends_exactly_and_never_rises(
    rounds: int, one: float, other: float
) -> None:
    start, end = max(one, other), min(one, other)
    rates = [learning_rate(round_id, rounds, start, end) for round_id in range(rounds)]
    assert rates[0] == start
    assert rates[-1] == end
    assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(rates))


def test_the_learning_rate_falls_by_one_factor_a_round() -> None:
    rates = [learning_rate(round_id, 5, 0.1, 0.001) for round_id in range(5)]
    assert rates == pytest.approx([0.1, 10**-1.5, 0.01, 10**-2.5, 0.001])


def test_a_single_round_uses_the_first_rate() -> None:
    assert learning_rate(0, 1, 0.1, 0.001) == 0.1
    assert linear_decay(0.25, 0, 1) == 0.25


def test_a_linear_decay_ends_at_exactly_nothing() -> None:
    assert [linear_decay(0.2, step, 5) for step in range(5)] == pytest.approx(
        [0.2, 0.15, 0.1, 0.05, 0.0]
    )
    assert linear_decay(0.1, 2, 3) == 0.0


@pytest.mark.parametrize("round_id", [-1, 10, 11])
def test_a_round_that_does_not_exist_has_no_rate(round_id: int) -> None:
    with pytest.raises(ValueError, match=f"step {round_id} of 10"):
        learning_rate(round_id, 10, 0.1, 0.01)
    with pytest.raises(ValueError, match=f"step {round_id} of 10"):
        linear_decay(0.1, round_id, 10)
