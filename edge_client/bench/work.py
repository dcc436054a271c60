"""What a training step has to do, from the program alone: held against the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_client.runtime.lowering import lower
from edge_client.runtime.program import Buffer, Instruction
from fedsparse.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """One training step of a whole batch, with the native kernels.

    Attributes:
        multiply_adds: of products with kept weights: forward, weight gradient, input gradient.
        moved_bytes: by call: the buffers that it reads or writes, each once; weights and indices
            aside.
    """

    multiply_adds: int
    moved_bytes: tuple[int, ...]


def step_work(plan: Plan, kept: Sequence[int], batch_size: int) -> StepWork:
    """The work of a step without micro-batches and with sparse kernels throughout."""
    program = lower(plan, kept, momentum=0.9)
    return StepWork(
        multiply_adds=sum(one.work.multiply_adds for one in program.instructions) * batch_size,
        moved_bytes=tuple(moved_bytes(one, batch_size) for one in program.instructions),
    )


def moved_bytes(instruction: Instruction, batch: int) -> int:
    """Bytes of the buffers that a call reads or writes, each counted once."""
    fields = instruction.fields.values()
    buffers = {id(field): field for field in fields if isinstance(field, Buffer)}
    return sum(one.size_bytes(batch) for one in buffers.values())
