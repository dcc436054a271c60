"""Pauses between attempts: spread, growing, and not reset by a broker that comes and goes."""

from __future__ import annotations

import itertools
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fedsparse.transport.backoff import HELD_S, SPREAD, Backoff

seeds = st.integers(0, 2**32)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def backoff(seed: int, clock: Clock, longest_s: float = 120.0) -> Backoff:
    return Backoff(1.0, longest_s, rng=random.Random(seed), clock=clock)


@given(seed=seeds)
def test_the_first_pause_is_half_to_four_times_the_shortest(seed: int) -> None:
    assert 0.5 <= backoff(seed, Clock()).next_pause_s() <= SPREAD


def test_a_fleet_spreads_evenly_over_its_first_pause() -> None:
    pauses = sorted(backoff(seed, Clock()).next_pause_s() for seed in range(1000))
    thirds = Counter(int((one - 0.5) / (SPREAD - 0.5) * 3) for one in pauses)
    assert all(280 < thirds[third] < 390 for third in range(3))


@given(seed=seeds)
def test_pauses_grow_up_to_the_longest(seed: int) -> None:
    tried = backoff(seed, Clock())
    pauses = [tried.next_pause_s() for _ in range(12)]
    assert all(later < 4.01 * earlier for earlier, later in itertools.pairwise(pauses))
    assert all(60.0 <= one <= 120.0 for one in pauses[-3:])


@given(seed=seeds)
def test_later_pauses_are_drawn_anew(seed: int) -> None:
    """Those that missed the same attempt do not meet at the next one."""
    tried = backoff(seed, Clock())
    for _ in range(9):
        tried.next_pause_s()
    assert len({tried.next_pause_s() for _ in range(8)}) == 8


@given(seed=seeds, held_s=st.floats(0, HELD_S - 0.01))
def test_a_connection_that_did_not_last_leaves_the_pause_growing(seed: int, held_s: float) -> None:
    clock = Clock()
    tried = backoff(seed, clock)
    for _ in range(12):
        tried.next_pause_s()
        tried.connected()
        clock.now_s += held_s
    assert tried.next_pause_s() >= 60.0


@given(seed=seeds)
def test_a_connection_that_lasted_begins_anew(seed: int) -> None:
    clock = Clock()
    tried = backoff(seed, clock)
    for _ in range(12):
        tried.next_pause_s()
    tried.connected()
    clock.now_s += HELD_S
    assert tried.next_pause_s() <= SPREAD


def test_a_seed_gives_the_same_pauses() -> None:
    one, other = backoff(7, Clock()), backoff(7, Clock())
    assert [one.next_pause_s() for _ in range(9)] == [other.next_pause_s() for _ in range(9)]
