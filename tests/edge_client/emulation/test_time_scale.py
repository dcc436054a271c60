from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import HOST

from edge_client.emulation.limits import Wishes, limits_of
from edge_client.emulation.link import Cut, Link
from edge_client.emulation.scale import TimeScale
from fedsparse.boards import load_board

FACTORS = st.floats(0.01, 100)


@given(factor=FACTORS, work=st.floats(1e6, 1e12), size=st.floats(1, 1e9))
def test_a_fleet_keeps_its_ratios_of_training_transfer_and_deadline_at_any_scale(
    factor: float, work: float, size: float
) -> None:
    scale = TimeScale(factor=factor)
    training_s = work / scale.host_rate(5e8)
    transfer_s = size / scale.host_rate(1e6)
    deadline_s = scale.host_s(60)
    assert math.isclose(training_s / deadline_s, work / 5e8 / 60)
    assert math.isclose(transfer_s / deadline_s, size / 1e6 / 60)
    assert math.isclose(scale.board_s(deadline_s), 60)


@given(factor=FACTORS)
def test_a_link_on_the_host_has_all_its_times_divided_and_its_rates_multiplied(
    factor: float,
) -> None:
    link = Link(
        up_bytes_per_s=1e6, down_bytes_per_s=2e6, delay_s=0.1, jitter_s=0.02, loss=0.1,
        cuts=(Cut(at_s=5, for_s=1, every_s=10),), seed=3,
    )  # fmt: skip
    host = link.on_host(TimeScale(factor=factor))
    assert host.up_bytes_per_s == pytest.approx(1e6 * factor)
    assert host.down_bytes_per_s == pytest.approx(2e6 * factor)
    assert (host.delay_s, host.jitter_s) == pytest.approx((0.1 / factor, 0.02 / factor))
    assert host.loss == 0.1
    cut = host.cuts[0]
    assert (cut.at_s, cut.for_s, cut.every_s) == pytest.approx(
        (5 / factor, 1 / factor, 10 / factor)
    )


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf, 1e6])
def test_a_scale_that_is_no_speed_of_time_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="time scale"):
        TimeScale(factor=factor)


def test_a_board_gets_the_share_of_this_host_that_makes_it_as_fast_at_that_scale() -> None:
    board = load_board("raspberry-pi-zero-2w")
    speed = board.speed
    assert speed is not None
    limits = limits_of(board, TimeScale(factor=4), Wishes(host=HOST))
    assert limits.cpu is not None
    assert limits.cpu.per_core == pytest.approx(4 * speed.value / HOST.multiply_adds_per_s)
