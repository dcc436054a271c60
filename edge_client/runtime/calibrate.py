"""The speed of the real kernels on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.targets import random_targets
from fedsparse.plan import Plan, Role
from fedsparse.sparsity.masks import random_mask
from fedsparse.types import BoolArray, Weights


def calibrate(
    plan: Plan,
    kept: Sequence[Sequence[int]],
    batch_size: int,
    *,
    rng: np.random.Generator,
    budget_s: float = 0.4,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, ...]:
    """Time training steps on random masks and samples; the weights do not matter, nor do they move.

    Args:
        plan: the model.
        kept: for each level, the kept weights of each prunable tensor.
        batch_size: of the steps.
        rng: makes masks and samples.
        budget_s: time for all levels together; a slow machine takes the two steps of each level
            that it needs at least.
        clock: seconds.

    Returns:
        For each level, seconds of a training step of a whole batch, the fastest of several.

    Raises:
        EngineError: the engine cannot run the plan.
    """
    samples = rng.standard_normal((batch_size, *plan.input_shape), dtype=np.float32)
    targets = random_targets(plan, batch_size, rng)
    seconds = []
    for counts in kept:
        mask = random_mask(plan, counts, rng)
        engine = SparseEngine(
            plan, mask, plain_weights(plan, mask), batch_size=batch_size, momentum=0.9
        )
        end = clock() + budget_s / len(kept)
        times: list[float] = []
        while len(times) < 2 or (clock() < end and len(times) < 30):
            start = clock()
            engine.train_step(samples, targets, learning_rate=0.0)
            times.append(clock() - start)
        seconds.append(min(times[1:]))  # the first step takes its pages; others, what else runs
        del engine
    return tuple(seconds)


def plain_weights(plan: Plan, mask: BoolArray) -> Weights:
    """Small weights, unit scales and variances: nothing overflows, nothing is denormal."""
    dense = [
        np.full(tensor.size, tensor.role in (Role.SCALE, Role.RUNNING_VAR), np.float32)
        for tensor in plan.dense
    ]
    return Weights(
        prunable=np.full(np.count_nonzero(mask), 0.01, np.float32),
        dense=np.concatenate([np.zeros(0, np.float32), *dense]),
    )
