"""A level goes down at once, and up only with room to spare for some offers in a row."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.budget.hysteresis import Hold, Room, Settled, kept_promise, settle, step_down
from fedsparse.errors import DataError

LEVELS = (0.2, 0.1, 0.05)
NEEDS = {0.2: 100.0, 0.1: 60.0, 0.05: 40.0}  # memory of each level
HEADROOM = 0.1
PATIENCE = 3


def rooms(available: float, levels: tuple[float, ...] = LEVELS) -> tuple[Room, ...]:
    return tuple(
        Room(
            level=level,
            fits=NEEDS[level] <= available,
            spare=NEEDS[level] <= available / (1 + HEADROOM),
        )
        for level in levels
    )


def answer(available: float, hold: Hold | None, round_id: int, subject: str = "job") -> Settled:
    return settle(rooms(available), hold, subject=subject, round_id=round_id, raise_after=PATIENCE)


def follow(memories: list[float], hold: Hold | None = None) -> list[float | None]:
    """The levels taken, offer by offer."""
    levels = []
    for round_id, available in enumerate(memories):
        settled = answer(available, hold, round_id)
        levels.append(settled.level)
        hold = settled.hold
    return levels


def test_the_first_offer_takes_the_largest_that_fits_without_headroom() -> None:
    assert follow([100.0]) == [0.2]
    assert follow([99.9]) == [0.1]
    assert follow([39.0]) == [None]


def test_a_level_goes_down_at_once() -> None:
    assert follow([500.0, 99.0, 59.0]) == [0.2, 0.1, 0.05]


def test_a_level_goes_up_after_room_in_some_offers_in_a_row() -> None:
    assert follow([60, 500, 500, 500, 500]) == [0.1, 0.1, 0.1, 0.2, 0.2]


def test_an_offer_without_room_begins_the_count_anew() -> None:
    assert follow([60, 500, 500, 100, 500, 500, 500]) == [0.1] * 6 + [0.2]


def test_it_goes_up_to_what_had_room_in_every_offer_counted() -> None:
    assert follow([40, 500, 70, 500]) == [0.05, 0.05, 0.05, 0.1]
    assert follow([40, 500, 500, 500]) == [0.05, 0.05, 0.05, 0.2]


def test_an_offer_that_is_repeated_counts_once() -> None:
    hold = answer(60.0, None, 0).hold
    for _ in range(5):
        settled = answer(500.0, hold, 1)
        assert settled.level == 0.1
        hold = settled.hold
    assert hold is not None
    assert hold.offers == 1


@pytest.mark.parametrize("available", [59.0, 10.0])
def test_an_offer_that_is_repeated_lowers_nothing_for_the_next_round(available: float) -> None:
    hold = answer(100.0, None, 3).hold
    again = answer(available, hold, 3)
    assert again.level == (0.05 if available > 40 else None)  # what fits now
    assert again.hold == hold
    assert answer(100.0, again.hold, 4).level == 0.2


def test_a_broken_promise_counts_in_its_own_round() -> None:
    hold = answer(100.0, None, 3).hold
    assert hold is not None
    assert answer(100.0, step_down(hold, 0.2, LEVELS, "late"), 3).level == 0.1


def test_whoever_sat_out_comes_back_at_the_smallest_level_as_soon_as_it_fits() -> None:
    assert follow([500, 10, 40, 40]) == [0.2, None, 0.05, 0.05]
    assert follow([10, 500]) == [None, 0.2]  # it held nothing yet


def test_another_subject_begins_afresh() -> None:
    hold = answer(60.0, None, 0).hold
    assert answer(500.0, hold, 1, "another job").level == 0.2


def test_levels_that_are_no_longer_on_offer_are_not_taken() -> None:
    fewer = (0.1, 0.05)
    hold = Hold(subject="job", level=0.2)
    settled = settle(rooms(500.0, fewer), hold, subject="job", round_id=1, raise_after=PATIENCE)
    assert settled.level == 0.1
    rising = Hold(subject="job", level=0.05, rising=0.07, offers=2, round_id=4)
    settled = settle(rooms(500.0, fewer), rising, subject="job", round_id=5, raise_after=PATIENCE)
    assert settled.level == 0.05
    assert settled.hold == replace(rising, rising=0.1, offers=1, round_id=5)


def test_where_only_a_larger_level_fits_it_is_taken() -> None:
    odd = (Room(level=0.2, fits=True, spare=True), Room(level=0.1, fits=False, spare=False))
    hold = Hold(subject="job", level=0.1)
    assert settle(odd, hold, subject="job", round_id=1, raise_after=PATIENCE).level == 0.2


def test_a_broken_promise_holds_the_next_smaller_level_and_is_remembered() -> None:
    hold = Hold(subject="job", level=0.2, rising=0.5, offers=2, round_id=7)
    after = step_down(hold, 0.2, LEVELS, "killed for memory")
    assert (after.level, after.rising, after.offers) == (0.1, 0.0, 0)
    assert after.broken == "killed for memory"
    assert kept_promise(after).broken == ""
    assert answer(500.0, after, 8).level == 0.1
    assert step_down(hold, 0.05, LEVELS, "").level == 0.05  # there is none smaller
    lower = replace(hold, level=0.05)
    assert step_down(lower, 0.2, LEVELS, "").level == 0.05  # never up


def test_what_is_remembered_survives_the_disk() -> None:
    hold = Hold(subject="job", level=0.1, rising=0.2, offers=2, round_id=7, broken="too late")
    assert Hold.from_json(hold.to_json()) == hold


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", "[" * 100_000, '{"version": 2}', '{"version": 1, "level": "x"}', "\0"],
)
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="begin afresh"):
        Hold.from_json(text)


@given(level=st.floats(allow_nan=True), rising=st.floats(), offers=st.integers())
def test_only_levels_are_held(level: float, rising: float, offers: int) -> None:
    try:
        Hold(subject="", level=level, rising=rising, offers=offers)
    except ValueError:
        assert not (0 < level <= 1 and 0 <= rising <= 1 and offers >= 0)
    else:
        assert 0 < level <= 1


memories = st.lists(st.floats(0, 300), min_size=1, max_size=40)
boundaries = st.sampled_from(sorted(NEEDS.values()))


@given(
    boundary=boundaries,
    jitter=st.lists(st.floats(-HEADROOM / 2, HEADROOM * 0.99), min_size=2, max_size=60),
)
def test_memory_that_jitters_around_a_boundary_changes_the_level_at_most_once(
    boundary: float, jitter: list[float]
) -> None:
    levels = [level for level in follow([boundary * (1 + one) for one in jitter]) if level]
    assert sum(before != after for before, after in pairwise(levels)) <= 1


@given(memories=memories)
def test_a_level_that_does_not_fit_is_never_taken(memories: list[float]) -> None:
    for available, level in zip(memories, follow(memories), strict=True):
        assert level is None or NEEDS[level] <= available
        assert (level is None) == (available < min(NEEDS.values()))


@given(memories=memories)
def test_between_two_rises_lie_as_many_offers_as_patience_asks(memories: list[float]) -> None:
    levels = follow(memories)
    taken = [(index, level) for index, level in enumerate(levels) if level]
    for (_, before), (index, after) in pairwise(taken):
        if after > before:
            spare = [answer_room(one) for one in memories[index - PATIENCE + 1 : index + 1]]
            assert len(spare) == PATIENCE
            assert all(room >= after for room in spare)


def answer_room(available: float) -> float:
    """The largest level with room to spare."""
    return max((room.level for room in rooms(available) if room.spare), default=0.0)


@given(memories=memories, more=st.floats(0, 300))
def test_memory_that_stays_ends_at_the_largest_level_with_room(
    memories: list[float], more: float
) -> None:
    steady = [*memories, *[more] * 2 * PATIENCE]
    last = follow(steady)[-1] or 0.0
    assert answer_room(more) <= last
    assert NEEDS.get(last, 0.0) <= more


@given(memories=memories, subject=st.sampled_from(["job", "other"]), at=st.integers(0, 39))
def test_a_restart_changes_nothing(memories: list[float], subject: str, at: int) -> None:
    hold: Hold | None = None
    expected, found = [], []
    kept = None
    for round_id, available in enumerate(memories):
        settled = answer(available, hold, round_id, subject)
        hold = settled.hold
        expected.append(settled.level)
        if round_id == at and kept is not None:
            kept = Hold.from_json(kept.to_json())
        again = answer(available, kept, round_id, subject)
        kept = again.hold
        found.append(again.level)
    assert expected == found
