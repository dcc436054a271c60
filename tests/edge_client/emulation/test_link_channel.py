from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.emulation.channel import CREDIT_S, LATE_S, PACKET_BYTES, Channel, ChannelShape


def channel(seed: int = 0, **shape: float) -> Channel:
    return Channel(ChannelShape(**shape), random.Random(seed))


@given(sizes=st.lists(st.integers(1, 65536), min_size=1, max_size=50), rate=st.floats(100, 1e8))
def test_bytes_leave_at_the_rate_but_for_what_an_idle_link_has_saved_up(
    sizes: list[int], rate: float
) -> None:
    wire = channel(bytes_per_s=rate)
    now_s = 100.0
    for size in sizes:
        now_s = max(now_s, wire.send(size, now_s)[0])
    taken_s = sum(sizes) / rate
    assert taken_s - CREDIT_S - 1e-6 <= now_s - 100.0 <= taken_s + 1e-6


@given(late_s=st.lists(st.floats(0, LATE_S / 20), min_size=1, max_size=20))
def test_being_served_late_costs_no_rate(late_s: list[float]) -> None:
    wire = channel(bytes_per_s=1e6)
    now_s = 50.0
    for delay_s in late_s:
        free_s, _ = wire.send(20_000, now_s, late=now_s > 50.0)
        now_s = max(now_s, free_s) + delay_s
    assert free_s - 50.0 <= len(late_s) * 0.02 + 1e-6


def test_a_wire_that_was_idle_has_saved_no_more_than_a_moment() -> None:
    wire = channel(bytes_per_s=1000)
    wire.send(1000, 10.0)
    assert wire.send(1000, 20.0)[0] == pytest.approx(21.0 - CREDIT_S)


def test_delay_comes_after_the_rate_and_jitter_after_both() -> None:
    free_s, arrives_s = channel(bytes_per_s=1000, delay_s=0.5).send(1000, 10.0)
    assert free_s == pytest.approx(11.0 - CREDIT_S)
    assert arrives_s == pytest.approx(free_s + 0.5)
    arrivals = {channel(seed, delay_s=0.5, jitter_s=0.2).send(1, 0.0)[1] for seed in range(50)}
    assert 0.5 <= min(arrivals) < 0.55
    assert 0.65 < max(arrivals) <= 0.7


def test_a_seed_gives_the_same_weather_again() -> None:
    shape = {"bytes_per_s": 1e5, "delay_s": 0.01, "jitter_s": 0.1, "loss": 0.2}
    first, second, other = channel(1, **shape), channel(1, **shape), channel(2, **shape)
    sent = [[one.send(5000, second_) for second_ in range(30)] for one in (first, second, other)]
    assert sent[0] == sent[1]
    assert sent[0] != sent[2]


def test_lost_packets_take_their_time_again_and_hold_up_what_is_behind() -> None:
    packets, rate = 20_000, 1e6
    lossy = channel(bytes_per_s=rate, loss=0.1, resend_s=0.2)
    now_s, stalls_s = 10.0, 0.0
    for _ in range(packets):  # one by one: nothing behind a packet tells of its loss
        free_s, arrives_s = lossy.send(PACKET_BYTES, now_s)
        stalls_s += arrives_s - free_s
        now_s = free_s
    # Each packet is sent 1 / (1 - loss) times.
    assert now_s - 10.0 == pytest.approx(packets * PACKET_BYTES / rate / 0.9, rel=0.01)
    # It waits 0.2 s with probability 0.1, then 0.4 s more with 0.1 of that, 0.8 s ...
    expected_s = packets * sum(0.2 * 2**again * 0.1 ** (again + 1) for again in range(20))
    assert stalls_s == pytest.approx(expected_s, rel=0.1)


def test_a_loss_amid_a_long_burst_costs_a_round_trip_and_no_timeout() -> None:
    quick = channel(3, delay_s=0.01, loss=0.02, resend_s=0.2)
    stalls_s = [quick.send(40 * PACKET_BYTES, 0.0)[1] - 0.01 for _ in range(200)]
    assert 0 < sum(stall_s > 0 for stall_s in stalls_s) < 200
    assert min(stall_s for stall_s in stalls_s if stall_s > 0) == pytest.approx(0.02)


@given(rate=st.floats(1, 1e10))
def test_a_chunk_is_small_enough_for_an_even_flow_and_large_enough_to_be_worth_a_turn(
    rate: float,
) -> None:
    assert 512 <= ChannelShape(bytes_per_s=rate).chunk_bytes <= 65536
