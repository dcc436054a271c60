"""Memory layout: buffers that live together never share a byte."""

from __future__ import annotations

import itertools

import pytest
from engine_plans import mobile_plan, residual_plan
from hypothesis import given
from hypothesis import strategies as st

from edge_client.runtime.arena import ALIGNMENT, lay_out
from edge_client.runtime.lowering import lower
from edge_client.runtime.program import Buffer
from fedsparse.plan import Plan

lives = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted)


@given(st.lists(st.tuples(lives, st.integers(0, 500)), max_size=25))
def test_buffers_that_live_together_never_overlap(wanted: list[tuple[list[int], int]]) -> None:
    buffers = [Buffer(fixed_bytes=size, first=first, last=last) for (first, last), size in wanted]
    arena = lay_out(buffers, 1)
    for (a, start_a), (b, start_b) in itertools.combinations(
        zip(buffers, arena.offsets, strict=True), 2
    ):
        together = a.first <= b.last and b.first <= a.last
        apart = start_a + a.fixed_bytes <= start_b or start_b + b.fixed_bytes <= start_a
        assert apart or not together
    assert all(offset % ALIGNMENT == 0 for offset in arena.offsets)
    assert arena.size_bytes <= sum(-(-b.fixed_bytes // ALIGNMENT) * ALIGNMENT for b in buffers)


def test_buffers_that_never_live_together_share_their_bytes() -> None:
    buffers = [Buffer(fixed_bytes=640, first=time, last=time) for time in range(5)]
    assert lay_out(buffers, 1).size_bytes == 640


@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize("plan", [residual_plan(), mobile_plan()], ids=lambda plan: plan.name)
def test_a_models_arena_is_no_smaller_than_its_busiest_moment(plan: Plan, batch: int) -> None:
    program = lower(plan, [tensor.size for tensor in plan.prunable])
    busiest = max(
        sum(b.size_bytes(batch) for b in program.buffers if b.first <= time <= b.last)
        for time in range(len(program.instructions))
    )
    assert busiest <= lay_out(program.buffers, batch).size_bytes <= 1.25 * busiest
