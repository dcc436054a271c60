from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.emulation.link import Cut, Link


def test_a_cut_begins_and_ends_once() -> None:
    cut = Cut(at_s=2, for_s=3)
    assert [cut.is_on(second) for second in (0, 1.9, 2, 4.9, 5, 100)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip
    assert [cut.next_change_s(second) for second in (0, 2, 4, 5)] == [2, 5, 5, None]


@given(now_s=st.floats(0, 1e4), at_s=st.floats(0, 50), for_s=st.floats(0.1, 5))
def test_walking_from_change_to_change_meets_every_cut(
    now_s: float, at_s: float, for_s: float
) -> None:
    cut = Cut(at_s=at_s, for_s=for_s, every_s=for_s + 2)
    change_s = cut.next_change_s(now_s)
    assert change_s is not None
    assert change_s >= now_s
    margin_s = 1e-6 * max(1.0, change_s)  # of rounding
    if change_s - now_s > 2 * margin_s:
        assert cut.is_on(now_s) == cut.is_on(change_s - margin_s)
    assert cut.is_on(change_s - margin_s) != cut.is_on(change_s + margin_s) or math.isclose(
        change_s, now_s, rel_tol=1e-5, abs_tol=1e-5
    )


def test_a_link_is_cut_while_any_of_its_cuts_is_on() -> None:
    link = Link(cuts=(Cut(at_s=1, for_s=1), Cut(at_s=10, for_s=5, every_s=20)))
    assert [link.is_cut(second) for second in (0, 1.5, 3, 12, 16, 31)] == [
        False, True, False, True, False, True,
    ]  # fmt: skip
    assert link.next_change_s(3) == 10


@pytest.mark.parametrize(
    "mistake",
    [
        {"up_bytes_per_s": 0},
        {"down_bytes_per_s": math.inf},
        {"delay_s": -1},
        {"jitter_s": math.nan},
        {"loss": 0.9},
        {"loss": math.nan},
    ],
)
def test_a_link_that_cannot_be_is_refused(mistake: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"link|delay|loss"):
        Link(**mistake)


@pytest.mark.parametrize(("at_s", "for_s", "every_s"), [(-1, 1, None), (0, 0, None), (0, 5, 5)])
def test_a_cut_that_cannot_be_is_refused(at_s: float, for_s: float, every_s: float | None) -> None:
    with pytest.raises(ValueError, match="cut"):
        Cut(at_s=at_s, for_s=for_s, every_s=every_s)
