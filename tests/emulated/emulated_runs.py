"""What runs on the emulated boards of these tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Trains a model of the zoo for so many seconds; prints the work done and the time it took.
TRAIN: Final = """
import json, sys, time
import numpy as np
from edge_client.bench.case import kept_at
from edge_client.runtime.step_times import plain_weights
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.targets import random_targets
from fedsparse.plan.finding import find_plan
from fedsparse.sparsity.masks import random_mask

plan, batch, rng = find_plan(sys.argv[1]), 32, np.random.default_rng(0)
kept, setup = kept_at(plan, 0.1), EngineSetup(micro_batch=batch)
mask = random_mask(plan, kept, rng)
engine = SparseEngine(
    plan, mask, plain_weights(plan, mask), batch_size=batch, setup=setup, momentum=0.9
)
samples = rng.standard_normal((batch, *plan.input_shape), dtype=np.float32)
targets = random_targets(plan, batch, rng)
engine.train_step(samples, targets, learning_rate=1e-3)
work, steps = sparse_cost(plan, kept, batch, setup=setup).multiply_adds, []
began, used = time.monotonic(), time.process_time()
while time.monotonic() - began < float(sys.argv[2]):
    start = time.monotonic()
    engine.train_step(samples, targets, learning_rate=1e-3)
    steps.append(time.monotonic() - start)
seconds = time.monotonic() - began
print(json.dumps([len(steps) * work, seconds, time.process_time() - used, sorted(steps)]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a run of `TRAIN` did.

    Attributes:
        multiply_adds: in all.
        seconds, cpu_s: on this host's clock, and of its processor.
        steps_s: of each step, ascending.
    """

    multiply_adds: int
    seconds: float
    cpu_s: float
    steps_s: Sequence[float]


def train(model: str, seconds: float) -> list[str]:
    """The command."""
    return [sys.executable, "-c", TRAIN, model, str(seconds)]


def trained(stdout: str) -> Trained:
    """What the command printed."""
    multiply_adds, seconds, cpu_s, steps_s = json.loads(stdout)
    return Trained(multiply_adds=multiply_adds, seconds=seconds, cpu_s=cpu_s, steps_s=steps_s)
