"""What sparse training will cost, before anything is allocated: plain arithmetic, no numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from edge_client.runtime.arena import lay_out
from edge_client.runtime.lowering import lower
from edge_client.runtime.program import FLOAT_BYTES, Program
from edge_client.runtime.setup import EngineSetup
from fedsparse.plan import Plan

# Python objects, argument blocks and the pages of the library's code that run.
FIXED_BYTES: Final = 450_000
INSTRUCTION_BYTES: Final = 600
TENSOR_BYTES: Final = 3_600  # the arrays of its index, as Python objects and to the allocator


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one engine needs.

    Attributes:
        peak_bytes: by how much the peak resident memory of the process grows over what it is
            once Python, numpy and the kernels are loaded; activations are part of it, the
            caller's samples, mask and weights are not.
        multiply_adds: work of one training step of the whole batch, forward and backward; the
            elementwise work counts as multiply-adds that take as long.
    """

    peak_bytes: int
    multiply_adds: int

    def with_more(self, peak_bytes: int) -> Cost:
        """The same work with a higher peak."""
        return replace(self, peak_bytes=self.peak_bytes + peak_bytes)


def sparse_cost(
    plan: Plan,
    kept: Sequence[int],
    batch_size: int,
    *,
    momentum: bool = True,
    setup: EngineSetup | None = None,
) -> Cost:
    """The cost of `SparseEngine` for a plan under a mask; the last answers are remembered.

    Args:
        plan: the model.
        kept: kept weights of each prunable tensor, in plan order.
        batch_size: the largest batch, which `multiply_adds` is for.
        momentum: whether SGD has momentum.
        setup: how steps are run; by default as the engine's.

    Raises:
        EngineError: a count does not fit its tensor, or the engine cannot run the plan.
    """
    return _sparse_cost(
        plan, tuple(kept), batch_size, momentum, setup or EngineSetup(micro_batch=batch_size)
    )


@lru_cache(maxsize=64)
def _sparse_cost(
    plan: Plan, kept: tuple[int, ...], batch_size: int, momentum: bool, setup: EngineSetup
) -> Cost:
    micro_batch = min(setup.micro_batch, batch_size)
    program = lower(
        plan,
        kept,
        momentum=0.9 if momentum else 0.0,
        accumulate=micro_batch < batch_size,
        dense_layers=setup.dense_layers,
    )
    copies = 2 if momentum else 1
    parameters = FLOAT_BYTES * copies * (sum(kept) + plan.num_dense)
    peak_bytes = (
        lay_out(program.buffers, micro_batch).size_bytes
        + parameters
        + sum(weight.index_bytes for weight in program.weights)
        + plan.num_prunable // 8
        + INSTRUCTION_BYTES * len(program.instructions)
        + TENSOR_BYTES * len(program.weights)
        + FIXED_BYTES
    )
    return Cost(peak_bytes=peak_bytes, multiply_adds=_work(program, batch_size, micro_batch))


def _work(program: Program, batch_size: int, micro_batch: int) -> int:
    """Of one step: what every sample takes, what every micro-batch takes, what the step takes."""
    micro_batches = -(-batch_size // micro_batch)
    each = (program.load, *program.forward, program.loss, *program.backward)
    once = (*program.start, *program.update)
    fixed = sum(i.work.amount(0) for i in each)
    samples = sum(i.work.amount(batch_size) for i in each) - fixed
    return samples + micro_batches * fixed + sum(i.work.amount(0) for i in once)
