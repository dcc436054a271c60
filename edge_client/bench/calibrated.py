"""`python -m edge_client.bench.calibrated FOLDER...`: calibrate the cases of one plan and batch.

As a device does it before its first round, in a process of its own. What it would choose and expect
goes into each folder: the engine `auto` runs so.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edge_client.bench.case import GRAPH_FILE, Calibrated, read_case, write_calibrated
from edge_client.calibration import kept_by_name
from edge_client.runtime.auto import Choices, calibrate


def calibrate_cases(folders: list[Path]) -> None:
    """Calibrate all densities at once and write down each one's setup and time."""
    cases = [read_case(folder) for folder in folders]
    plan, first = cases[0]
    kept = [case.kept for _, case in cases]
    graph = folders[0] / GRAPH_FILE
    timings = calibrate(
        plan,
        kept,
        first.batch_size,
        rng=np.random.default_rng(first.seed),
        choices=Choices(threads=first.threads, graph=graph if graph.is_file() else None),
    )
    for folder, counts, timing in zip(folders, kept, timings, strict=True):
        setup = timing.setup(kept_by_name(plan, counts), first.batch_size)
        step_s = timing.step_s[first.batch_size]
        write_calibrated(folder, Calibrated(setup=setup, step_s=step_s))


if __name__ == "__main__":
    calibrate_cases([Path(argument) for argument in sys.argv[1:]])
