"""The trainer's short task: how fast are the real kernels on this plan, here?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import edge_client.trainer.train  # noqa: F401 (the baseline is the memory of a training task)
from edge_client.calibration import Calibration
from edge_client.memory import rss_bytes
from edge_client.runtime.calibrate import calibrate
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.native.library import load_library
from edge_client.trainer.request import CalibrateRequest
from fedsparse.durable import write_durably
from fedsparse.plan import Plan


def run_calibration(request: CalibrateRequest) -> None:
    """Measure the steps of all levels, and write the `Calibration` to `request.output`."""
    plan = Plan.from_json(Path(request.plan).read_bytes())
    load_library()
    rng = np.random.default_rng(0)
    baseline_bytes = rss_bytes()
    step_s = calibrate(plan, request.kept, request.batch_size, rng=rng)
    work = [sparse_cost(plan, kept, request.batch_size).multiply_adds for kept in request.kept]
    calibration = Calibration(
        plan_digest=plan.digest,
        batch_size=request.batch_size,
        step_s=dict(zip(request.levels, step_s, strict=True)),
        multiply_adds=dict(zip(request.levels, work, strict=True)),
        baseline_bytes=baseline_bytes,
    )
    write_durably(Path(request.output), calibration.to_json().encode())
