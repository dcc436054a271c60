"""`python -m edge_client.emulation.measure_speed`: what one thread does on the training kernels.

JSON on its standard output: model -> multiply-adds per second of whole training steps.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

import numpy as np

from edge_client.bench.case import kept_at
from edge_client.runtime.auto import Choices, calibrate
from fedsparse.errors import FedSparseError
from fedsparse.plan.finding import find_plan

# Those of `edge-client bench`, whose figures boards' profiles are filled with.
MODELS: Final = ("mnist", "watch", "cifar10")
DENSITY: Final = 0.1
BATCH: Final = 32
RUNS: Final = 3
RUN_S: Final = 0.25


def speed(model: str) -> float:
    """Multiply-adds per second of processor time, of one thread: the best of several runs.

    Raises:
        FedSparseError: the kernels do not load, or do not run the model.
    """
    plan = find_plan(model)
    kept = [kept_at(plan, DENSITY)]
    runs = (
        calibrate(
            plan, kept, BATCH,
            rng=np.random.default_rng(0), choices=Choices(engine="sparse"), budget_s=RUN_S,
            clock=time.process_time,
        )[0]
        for _ in range(RUNS)
    )  # fmt: skip
    return max(timing.multiply_adds / timing.step_s[BATCH] for timing in runs)


def main() -> int:
    """Measure every model; returns the exit code."""
    try:
        speeds = {model: speed(model) for model in MODELS}
    except (FedSparseError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(speeds) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
