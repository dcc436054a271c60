"""How much is under way: on links of all kinds, which are simulated."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.transport.pace import FIRST_BYTES, TARGET_S, Ceiling, Pace

CHUNK = 16 * 1024


class Link:
    """Bytes leave one after the other; the acknowledgement of a chunk takes the way there and back.

    Attributes:
        longest_wait_s: that a message which is sent now waits for what is in front of it.
    """

    def __init__(self, bytes_per_s: float, round_trip_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.round_trip_s = round_trip_s
        self.now_s = self.free_s = 0.0
        self.longest_wait_s = 0.0
        self.pace = Pace(lambda: self.now_s)
        self._acknowledgements: deque[tuple[float, int]] = deque()
        self._handles = iter(range(10**9))

    def transfer(self, chunks: int) -> float:
        """Send so many as the pace allows, until all are acknowledged; seconds."""
        began_s, left = self.now_s, chunks
        while left or self._acknowledgements:
            while left and self.pace.allows(CHUNK):
                left -= 1
                handle = next(self._handles)
                self.pace.sending(handle, CHUNK)
                self.free_s = max(self.now_s, self.free_s) + CHUNK / self.bytes_per_s
                self._acknowledgements.append((self.free_s + self.round_trip_s, handle))
            self.longest_wait_s = max(self.longest_wait_s, self.free_s - self.now_s)
            self.now_s, handle = self._acknowledgements.popleft()
            self.pace.acknowledged(handle)
        return self.now_s - began_s


@settings(max_examples=30)
@given(rate=st.floats(5e4, 2e6), round_trip_s=st.floats(0.0, 1.0))
def test_a_link_is_used_and_others_wait_for_half_a_second_at_most(
    rate: float, round_trip_s: float
) -> None:
    """And for what fills the way there and back, where a transfer begins on an idle link."""
    link = Link(rate, round_trip_s)
    fills = int(rate * (round_trip_s + TARGET_S) / CHUNK) + 1
    link.transfer(20 * fills)
    link.longest_wait_s = 0.0
    chunks = 5 * fills + 100
    took_s = link.transfer(chunks)
    assert took_s <= (chunks * CHUNK / rate + round_trip_s) / 0.7
    assert link.longest_wait_s <= round_trip_s + 2 * TARGET_S + 2 * CHUNK / rate


def test_over_the_slowest_links_a_chunk_or_two_are_under_way() -> None:
    link = Link(1e4, 0.1)
    link.transfer(40)
    link.longest_wait_s = 0.0
    link.transfer(20)
    assert link.longest_wait_s <= 2 * CHUNK / 1e4 + 0.01


@pytest.mark.parametrize("round_trip_s", [0.01, 0.3, 0.8])
def test_a_link_that_stood_still_for_a_while_is_used_again(round_trip_s: float) -> None:
    link = Link(1e6, round_trip_s)
    link.transfer(500)
    calm_s = link.transfer(500)
    link.bytes_per_s = 2e4
    link.transfer(30)
    link.bytes_per_s = 1e6
    link.transfer(500)
    assert link.transfer(500) <= 1.2 * calm_s


def test_a_link_that_becomes_slow_is_noticed() -> None:
    link = Link(1e6, 0.01)
    link.transfer(300)
    link.bytes_per_s = 5e4
    link.transfer(60)
    link.longest_wait_s = 0.0
    link.transfer(20)
    assert link.longest_wait_s <= 2 * TARGET_S + 2 * CHUNK / 5e4


def test_at_first_little_is_under_way() -> None:
    pace = Pace(lambda: 0.0)
    pace.sending(1, FIRST_BYTES - 10)
    assert pace.allows(10)
    assert not pace.allows(11)
    assert Pace(lambda: 0.0, most_bytes=1_000).limit_bytes == 1_000


def test_what_is_larger_than_all_may_go_alone() -> None:
    pace = Pace(lambda: 0.0, most_bytes=1_000)
    assert pace.allows(CHUNK)
    pace.sending(1, CHUNK)
    assert not pace.allows(1)
    pace.acknowledged(1)
    assert pace.allows(CHUNK)


def test_what_was_under_way_when_the_connection_broke_says_nothing() -> None:
    now_s = [0.0]
    pace = Pace(lambda: now_s[0])
    before = pace.limit_bytes
    for handle in range(4):
        pace.sending(handle, CHUNK)
    now_s[0] = 100.0
    pace.interrupted()
    for handle in range(4):
        now_s[0] += 0.001
        pace.acknowledged(handle)
    assert pace.limit_bytes == before
    assert pace.allows(FIRST_BYTES)


def test_an_acknowledgement_of_something_else_is_none_of_its_business() -> None:
    pace = Pace(lambda: 1.0)
    pace.acknowledged(7)
    assert pace.limit_bytes == FIRST_BYTES


def test_little_that_comes_back_soon_says_nothing_of_more() -> None:
    pace = Pace(lambda: 1.0)
    for handle in range(1_000):
        pace.sending(handle, 1_000)
        pace.acknowledged(handle)
    assert pace.limit_bytes == FIRST_BYTES


# What may be under way at once, without any regard to time


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 500)), max_size=60))
def test_never_more_than_the_ceiling_is_under_way_but_one_alone(
    sizes: list[tuple[int, int]],
) -> None:
    ceiling = Ceiling(1_000)
    under_way: dict[int, int] = {}
    for key, size in sizes:
        if key in under_way:
            ceiling.acknowledged(key)
            del under_way[key]
            continue
        fits = sum(under_way.values()) + size <= 1_000
        assert ceiling.allows(size) is (fits or not under_way)
        if ceiling.allows(size):
            ceiling.sending(key, size)
            under_way[key] = size
        assert sum(under_way.values()) <= 1_000
        assert ceiling.is_low is (sum(under_way.values()) <= 500)


def test_what_is_larger_than_the_ceiling_may_go_alone() -> None:
    ceiling = Ceiling(10)
    assert ceiling.allows(11)
    ceiling.sending("a", 11)
    assert not ceiling.allows(1)
    assert not ceiling.is_low
    ceiling.cancelled("a")
    assert ceiling.allows(11)


def test_a_ceiling_stays_where_it_is() -> None:
    ceiling = Ceiling(1_000)
    for key in range(100):
        ceiling.sending(key, 600)
        ceiling.acknowledged(key)
        ceiling.acknowledged(key)  # and of what it does not know it knows nothing
    ceiling.interrupted()
    assert (ceiling.limit_bytes, ceiling.is_low) == (1_000, True)


def test_what_was_cancelled_says_nothing_of_the_link() -> None:
    now_s = [0.0]
    pace = Pace(lambda: now_s[0])
    for key in range(4):
        pace.sending(key, CHUNK)
    now_s[0] = 60.0
    for key in range(4):
        pace.cancelled(key)
        pace.acknowledged(key)
    assert pace.limit_bytes == FIRST_BYTES
    assert pace.is_low
