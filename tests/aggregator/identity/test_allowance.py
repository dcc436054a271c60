from __future__ import annotations

from aggregator.identity.allowance import Allowance


def test_a_burst_is_allowed_and_then_a_steady_pace() -> None:
    allowance = Allowance(burst=3, every_s=10.0)
    assert [allowance.take(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(s) for s in (9.9, 10.0, 10.1, 20.0)] == [False, True, False, True]


def test_what_is_not_used_does_not_pile_up() -> None:
    allowance = Allowance(burst=2, every_s=1.0)
    allowance.take(0.0)
    assert [allowance.take(1e6) for _ in range(3)] == [True, True, False]


def test_looking_takes_nothing() -> None:
    allowance = Allowance(burst=1, every_s=1.0)
    assert all(allowance.is_left(0.0) for _ in range(5))
    assert allowance.take(0.0)
    assert not allowance.is_left(0.0)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    allowance = Allowance(burst=1, every_s=1.0)
    assert allowance.take(100.0)
    assert not allowance.take(50.0)
