"""Which micro-batches a plan may be trained in (no numpy)."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from fedsparse.plan import Plan

# Batch-norm takes its statistics from what goes through together: fewer samples tell too little.
LEAST_NORMALISED: Final = 4


def micro_batches(plan: Plan, batch_size: int) -> tuple[int, ...]:
    """The batch, its half, a quarter of it and so on (rounded up), the largest first.

    Down to one sample; with batch-norm no part of a whole batch has fewer than four, unless the
    batch itself has.
    """
    least = LEAST_NORMALISED if _normalises_batches(plan) else 1
    sizes = [batch_size]
    while sizes[-1] > 1:
        size = -(-sizes[-1] // 2)
        if batch_size // passes(batch_size, size) < least:
            break
        sizes.append(size)
    return tuple(sizes)


def passes(batch_size: int, micro_batch: int) -> int:
    """Micro-batches of a step."""
    return -(-batch_size // micro_batch)


def divided(batch: int, micro_batch: int) -> list[slice]:
    """The micro-batches of a batch, as equal as can be; the first is the smallest."""
    count = passes(batch, micro_batch)
    bounds = [batch * index // count for index in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _normalises_batches(plan: Plan) -> bool:
    return any(node.operator.normalises_batch for node in plan.nodes)
