"""How much is done and how long the rest takes, on a clock that is an argument."""

from __future__ import annotations

import pytest

from tools.bench.paper.pace import Pace


def test_time_to_go_is_the_rest_at_the_speed_so_far() -> None:
    pace = Pace({"a": 10, "b": 30})
    assert pace.left_s(5.0) is None
    pace.tell("a", 1)
    pace.tell("a", 5)
    pace.tell("b", 1)
    pace.tell("b", 5)
    assert pace.share == pytest.approx(10 / 40)
    assert pace.left_s(20.0) == pytest.approx(60.0)


def test_what_an_earlier_start_did_does_not_count_as_speed() -> None:
    pace = Pace({"a": 100})
    pace.tell("a", 81)
    assert pace.left_s(2.0) == pytest.approx(38.0)
    assert pace.share == pytest.approx(0.81)


def test_nothing_is_left_of_a_run_that_was_given_up() -> None:
    pace = Pace({"a": 100, "b": 10})
    pace.tell("a", 1)
    pace.tell("a", 5)
    pace.end("a")
    assert pace.left_s(10.0) == pytest.approx(20.0)
    pace.tell("b", 1)
    pace.tell("b", 10)
    pace.end("b")
    assert (pace.share, pace.left_s(30.0)) == (1.0, 0.0)


def test_a_run_that_never_told_of_a_round_counts_as_done_when_it_ends() -> None:
    pace = Pace({"a": 10, "b": 10})
    pace.end("a")
    assert pace.share == pytest.approx(0.5)
    assert pace.left_s(10.0) is None
