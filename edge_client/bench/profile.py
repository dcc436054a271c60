"""Where the time of a training step goes: its kernel calls, timed one by one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from edge_client.bench.case import LEARNING_RATE, MOMENTUM, Case
from edge_client.bench.inputs import Inputs
from edge_client.bench.work import moved_bytes
from edge_client.runtime.native.timed import TimedLibrary
from edge_client.runtime.program import Instruction
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import Plan

WARM_UP_STEPS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTime:
    """One kernel call of a step, or several added up.

    Attributes:
        kernel: which; empty where several are added up.
        node: of the plan; empty where several are added up.
        calls: how many in a step.
        seconds: in a step: the median over the steps, added up over the calls.
        multiply_adds: of products with weights, in a step.
        moved_bytes: of the buffers that the calls read or write, counted once a call: about what
            has to move at least, weights and indices aside.
    """

    kernel: str
    node: str
    calls: int
    seconds: float
    multiply_adds: int
    moved_bytes: int


def profile_step(
    plan: Plan,
    case: Case,
    inputs: Inputs,
    *,
    setup: EngineSetup | None = None,
    steps: int = 30,
    library: TimedLibrary | None = None,
) -> list[CallTime]:
    """Time every kernel call of a training step, in the order in which they run.

    Args:
        plan, case, inputs: what is trained.
        setup: how steps are run.
        steps: how many are timed.
        library: times the calls.
    """
    timed = library or TimedLibrary()
    engine = SparseEngine(
        plan,
        inputs.mask,
        inputs.weights,
        batch_size=case.batch_size,
        setup=setup,
        momentum=MOMENTUM,
        library=timed,
    )
    for step in range(WARM_UP_STEPS + steps):
        if step == WARM_UP_STEPS:
            timed.times.clear()
        now = step % case.batches
        engine.train_step(inputs.samples[now], inputs.targets[now], learning_rate=LEARNING_RATE)
    # Dictionaries keep the order of first insertion: that of the program.
    measured = zip(engine.program.instructions, timed.times.values(), strict=True)
    return [_call(instruction, taken, steps, case.batch_size) for instruction, taken in measured]


def grouped(
    calls: Iterable[CallTime], key: Callable[[CallTime], tuple[str, str]]
) -> list[CallTime]:
    """Calls of one `key`, (kernel, node), added up; those that take longest first."""
    groups: dict[tuple[str, str], list[CallTime]] = {}
    for call in calls:
        groups.setdefault(key(call), []).append(call)
    added = [_sum(kernel, node, group) for (kernel, node), group in groups.items()]
    return sorted(added, key=lambda one: -one.seconds)


def _call(instruction: Instruction, taken: Sequence[int], steps: int, batch: int) -> CallTime:
    """With micro-batches a call runs several times in a step."""
    times = len(taken) // steps
    in_step = [sum(taken[i : i + times]) for i in range(0, len(taken), times)]
    return CallTime(
        kernel=instruction.kernel,
        node=instruction.node,
        calls=times,
        seconds=statistics.median(in_step) / 1e9,
        multiply_adds=instruction.work.multiply_adds * batch,
        moved_bytes=moved_bytes(instruction, batch),
    )


def _sum(kernel: str, node: str, group: Sequence[CallTime]) -> CallTime:
    return CallTime(
        kernel=kernel,
        node=node,
        calls=sum(one.calls for one in group),
        seconds=sum(one.seconds for one in group),
        multiply_adds=sum(one.multiply_adds for one in group),
        moved_bytes=sum(one.moved_bytes for one in group),
    )
