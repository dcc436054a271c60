"""The figures of one case on the native engine: measured, predicted, and against the limits."""

from __future__ import annotations

from typing import Any, Final

from edge_client.bench.case import Case, setup_from
from edge_client.bench.limits import Limits
from edge_client.bench.race import DEVICE_ENVIRONMENT, Contestant, Result, python_module
from edge_client.bench.work import step_work
from edge_client.runtime.cost import sparse_cost
from fedsparse.plan import Plan

MB: Final = 1e6
WORKER: Final = "edge_client.bench.worker"


def device_engine(name: str, engine: str, folder: str, threads: int) -> Contestant:
    """A contestant with an engine of the device (`edge_client.bench.worker.ENGINES`)."""
    return Contestant(
        name=name,
        command=python_module(WORKER, folder, engine),
        threads=threads,
        environment=DEVICE_ENVIRONMENT,
    )


def device_figures(plan: Plan, case: Case, result: Result, limits: Limits) -> dict[str, Any]:
    """What the sparse engine takes: times in ms, memory in MB (1e6 bytes) of the whole process.

    Args:
        plan, case: what was trained.
        result: of the sparse engine.
        limits: what one thread can do.
    """
    work = step_work(plan, case.kept, case.batch_size)
    cost = sparse_cost(plan, case.kept, case.batch_size, setup=setup_from(result.facts["setup"]))
    baseline = result.facts["baseline_bytes"]
    moving_s = sum(size / limits.copy_at(size) for size in work.moved_bytes)
    computing_s = work.multiply_adds / limits.fma_per_s
    return {
        "step_ms": 1e3 * result.step_s,
        "peak_rss_mb": result.peak_bytes / MB,
        "predicted_peak_mb": (baseline + cost.peak_bytes) / MB,
        "baseline_mb": baseline / MB,
        "setup_ms": 1e3 * result.facts["built_s"],
        "mask_change_ms": 1e3 * result.mask_change_s if result.mask_change_s else None,
        "kept": sum(case.kept),
        "parameters": plan.num_prunable + plan.num_dense,
        "multiply_adds": work.multiply_adds,
        "moved_mb": sum(work.moved_bytes) / MB,
        "fraction_of_fma_peak": computing_s / result.step_s / case.threads,
        "fraction_of_memory_limit": moving_s / result.step_s / case.threads,
    }
