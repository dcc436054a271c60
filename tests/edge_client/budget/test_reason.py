"""What a device says of its choice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from budget_world import (
    DIVISIBLE,
    EXAMPLES,
    MIB,
    PLAN,
    FakeHost,
    calibration,
    choose,
    kept_at,
    mib_up,
    offer,
    peak_bytes,
    round_s,
)
from hypothesis import given
from hypothesis import strategies as st

from edge_client.budget.reason import MAX_REASON
from edge_client.config import BudgetConfig
from edge_client.trainer.footprint import SampleCounts
from fedsparse.wire.messages import Ready


def tenths_up(seconds: float) -> str:
    return f"{math.ceil(seconds * 10) / 10:.1f} s"


def test_a_device_too_small_declines_with_the_memory_it_would_need() -> None:
    decision = choose(FakeHost(available_mib=80))
    assert decision.level is None
    assert decision.chosen is None
    assert decision.reason == f"declined: 0.05 needs {mib_up(0.05)} MiB (has 40)"


def test_a_device_too_small_for_what_every_level_keeps_says_that_it_is_the_dense_model() -> None:
    whole = tuple(tensor.size for tensor in PLAN.prunable)
    dense = replace(offer(), kept=(whole,) * 3)
    reason = choose(FakeHost(available_mib=80), offer=dense).reason
    assert reason.startswith("declined: the dense model needs ")
    assert choose(FakeHost(), offer=dense).reason.startswith("0.2: all weights, sparse, ")
    assert choose(FakeHost()).reason.startswith("0.2: sparse, ")


def test_a_device_too_slow_declines_with_the_time_it_would_need() -> None:
    decision = choose(FakeHost(rate=1e6, basis="estimated"), 20)
    assert decision.reason == (
        f"declined: 0.05 needs {round_s(0.05, 1e6):.1f} s "
        "(has 20.0, estimated speed, transfer not counted)"
    )


def test_a_device_short_of_both_says_both() -> None:
    reason = choose(FakeHost(available_mib=80, rate=1e6, basis="estimated"), 20).reason
    assert f"needs {mib_up(0.05)} MiB (has 40, estimated) and " in reason
    assert " s (has 20.0, estimated speed" in reason


def test_a_need_never_reads_as_if_it_were_met() -> None:
    row = choose(FakeHost()).rows[-1]
    short = BudgetConfig(memory_fraction=1.0, memory_mib=(row.peak_bytes - 1) / MIB)
    reason = choose(FakeHost(), row.round_s - 1e-3, budget=short).reason
    assert reason == (
        f"declined: 0.05 needs {mib_up(0.05)} MiB (has {mib_up(0.05) - 1}) and "
        f"{row.round_s + 0.05:.1f} s (has {row.round_s - 0.05:.1f}, transfer not counted)"
    )


def test_the_reason_says_what_stood_against_the_next_level() -> None:
    host = FakeHost(rate=1e8)
    short = round_s(0.1, 1e8) + 0.1
    tight = BudgetConfig(memory_fraction=1.0, memory_mib=peak_bytes(0.1) / MIB + 0.01)
    time = tenths_up(round_s(0.2, 1e8))
    assert choose(host, short).reason.endswith(f"; 0.2 would take {time}")
    assert choose(host, budget=tight).reason.endswith(f"; 0.2 would take {mib_up(0.2)} MiB")
    assert choose(host, short, budget=tight).reason.endswith(
        f"; 0.2 would take {time} and {mib_up(0.2)} MiB"
    )


def test_the_largest_level_needs_no_comparison() -> None:
    decision = choose(FakeHost(up=1e9, down=1e9))
    time = tenths_up(decision.rows[0].round_s)
    expected = (
        f"0.2: sparse, round {time[:-2]} of 100.0 s (specified link), "
        f"memory {mib_up(0.2)} of 500 MiB"
    )
    assert decision.reason == expected


@pytest.mark.parametrize(
    ("host", "note"),
    [
        (FakeHost(), "transfer not counted"),
        (FakeHost(up=1e6), "download not counted"),
        (FakeHost(down=1e6), "upload not counted"),
        (FakeHost(up=1e6, down=1e6), "specified link"),
    ],
)
def test_an_unknown_link_is_not_counted_and_said_so(host: FakeHost, note: str) -> None:
    decision = choose(host)
    assert note in decision.reason
    expected = 4 * (kept_at(0.2) + PLAN.num_dense) / 1e6 * ((host.up, host.down).count(1e6))
    assert decision.rows[0].transfer_s == pytest.approx(expected)


def test_estimates_are_labelled_and_measurements_are_not() -> None:
    assert "estimated" not in choose(FakeHost()).reason
    labelled = choose(FakeHost(basis="estimated")).reason
    assert "estimated speed" in labelled
    assert "MiB (estimated)" in labelled
    capped = choose(FakeHost(basis="estimated"), budget=BudgetConfig(memory_mib=400)).reason
    assert "of 400 MiB" in capped
    assert "MiB (estimated)" not in capped


def test_a_device_without_samples_declines() -> None:
    decision = choose(FakeHost(), samples=SampleCounts(trained=0))
    assert decision.level is None
    assert decision.reason == "declined: the device has no training samples"


def test_a_level_that_fits_not_even_in_the_smallest_parts_says_what_those_need() -> None:
    short = BudgetConfig(memory_fraction=1.0, memory_mib=(peak_bytes(0.05, 4) - 1) / MIB)
    decision = choose(FakeHost(), calibration=DIVISIBLE, budget=short)
    assert decision.level is None
    need = math.ceil(peak_bytes(0.05, 4) / MIB)
    assert decision.reason == (
        f"declined: 0.05 in micro-batches of 4 needs {need} MiB (has {need - 1})"
    )


def test_the_reason_says_how_a_level_is_trained() -> None:
    shared = calibration(step_s={32: 0.01, 16: 0.02}, threads=4)
    tight = BudgetConfig(memory_fraction=1.0, memory_mib=peak_bytes(0.2, 16) / MIB)
    assert ": sparse, round" in choose(FakeHost()).reason
    whole = choose(FakeHost(), calibration=shared).reason
    divided = choose(FakeHost(), calibration=shared, budget=tight).reason
    assert whole.startswith("0.2: sparse, 4 threads, round")
    assert divided.startswith("0.2: sparse, 4 threads, micro-batches of 16, round")


@given(
    memory=st.floats(1, 1e9),
    rate=st.floats(1e-3, 1e15),
    deadline=st.floats(1e-9, 1e300),
    link=st.sampled_from([None, 1e-3, 1e6]),
    basis=st.sampled_from(["measured", "estimated"]),
)
def test_every_decision_fits_on_the_wire(
    memory: float, rate: float, deadline: float, link: float | None, basis: str
) -> None:
    host = FakeHost(available_mib=memory, rate=rate, up=link, down=link, basis=basis)
    levels = (0.987654321, 0.123456789, 0.0000123456)
    timed = calibration(levels, threads=64, step_s={32: 0.01, 16: 0.02})
    decision = choose(host, offer=offer(deadline, levels), calibration=timed)
    assert decision.reason.isascii()
    assert len(decision.reason) <= MAX_REASON
    assert decision.reason[-1] not in " ,;("
    row = decision.chosen
    Ready(
        job="j",
        round_id=1,
        attempt=0,
        level=decision.level,
        num_examples=EXAMPLES,
        reason=decision.reason,
        predicted_peak_bytes=row.peak_bytes if row else 0,
        memory_budget_bytes=decision.means.memory_bytes,
        predicted_round_s=row.round_s if row else 0.0,
    )
