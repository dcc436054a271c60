"""The trainer's short task: how is this plan trained fastest here, and how fast is that?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np

import edge_client.trainer.train  # noqa: F401 (the baseline is the memory of a training task)
from edge_client.calibration import Calibration
from edge_client.memory import rss_bytes
from edge_client.runtime.native.library import load_library
from edge_client.trainer.request import CalibrateRequest
from fedsparse.durable import write_durably
from fedsparse.plan import Plan

OWN_BYTES: Final = 2_000_000  # of samples and clocks, and what engines that went leave in pieces


def run_calibration(request: CalibrateRequest) -> None:
    """Time the steps of all levels, and write the `Calibration` to `request.output`."""
    plan = Plan.from_json(Path(request.plan).read_bytes())
    load_library()
    if plan.is_opaque:  # which its tasks load, and no other task does
        from edge_client.runtime.onnx_session import load_onnxruntime

        load_onnxruntime()
    baseline_bytes = rss_bytes()
    # What only a calibration takes is no part of the baseline: numpy's generators, the clockwork.
    from edge_client.runtime.auto import Choices, calibrate

    rng = np.random.default_rng(0)
    left = math.inf
    if request.memory_bytes is not None:
        left = request.memory_bytes - rss_bytes() - OWN_BYTES
    timings = calibrate(
        plan,
        request.kept,
        request.batch_size,
        rng=rng,
        choices=Choices(
            threads=request.threads,
            engine=request.engine,
            graph=Path(request.graph) if request.graph else None,
            memory_bytes=left,
        ),
    )
    calibration = Calibration(
        plan_digest=plan.digest,
        batch_size=request.batch_size,
        levels=dict(zip(request.levels, timings, strict=True)),
        baseline_bytes=baseline_bytes,
    )
    write_durably(Path(request.output), calibration.to_json().encode())
