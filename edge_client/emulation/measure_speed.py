"""`python -m edge_client.emulation.measure_speed`: what one thread does on the training kernels.

JSON on its standard output: model -> multiply-adds per second of whole training steps.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from edge_client.probe.measured import DENSITY
from edge_client.trainer.kernel_speed import MODELS, Case
from fedsparse.errors import FedSparseError

RUNS: Final = 3
RUN_S: Final = 0.25


def speed(model: str) -> float:
    """Multiply-adds per second of processor time, of one thread: the best of several runs.

    Raises:
        FedSparseError: the kernels do not load, or do not run the model.
    """
    rates = []
    for _ in range(RUNS):
        case = Case(model, DENSITY, time.process_time)
        case.run(RUN_S)
        rates.append(case.rate)
    return max(rates)


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
