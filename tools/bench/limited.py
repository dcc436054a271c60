"""`fedsparse bench limited`: training in a process that may use only so much memory."""

from __future__ import annotations

import math
import statistics
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge_client.bench.case import Case, write_case
from edge_client.bench.figures import MB, device_engine
from edge_client.bench.race import Worker, draw_inputs
from edge_client.emulation.confine import confine
from edge_client.emulation.report import Resource
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.micro_batches import micro_batches
from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import EngineError
from fedsparse.plan import Plan

# Of a worker before its engine, beside the case's arrays: Python, numpy, the kernels.
PROCESS_BYTES: Final = 30_000_000
FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedRun:
    """How training went under a limit.

    Attributes:
        kind: of the limit (`edge_client.emulation.report.Mechanism`).
        limit_mb: it, in 1e6 bytes, as all below.
        predicted_mb: of the whole process, by which the micro-batch was chosen.
        peak_rss_mb: the process's highest resident memory, libraries that others use included.
        group_peak_mb: the highest use of its control group; without one, the most that was seen
            resident; None where the kernel does not tell.
        step_ms: the median.
    """

    model: str
    parameters: int
    density: float
    batch_size: int
    micro_batch: int
    steps: int
    kind: str
    limit_mb: float
    predicted_mb: float
    peak_rss_mb: float
    group_peak_mb: float | None
    step_ms: float

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def fitting_case(plan: Plan, case: Case, limit_bytes: int) -> tuple[Case, int]:
    """The case in the largest micro-batches that the limit leaves room for, and its forecast.

    Raises:
        EngineError: even the smallest do not fit; the message has the figures.
    """
    arrays = _array_bytes(plan, case)
    needed = 0
    for size in micro_batches(plan, case.batch_size):
        setup = EngineSetup(micro_batch=size, threads=case.threads)
        cost = sparse_cost(plan, case.kept, case.batch_size, setup=setup)
        needed = PROCESS_BYTES + arrays + cost.peak_bytes
        if needed <= limit_bytes:
            return replace(case, micro_batch=size), needed
    raise EngineError(
        f"'{plan.name}' needs {needed / MB:.0f} MB even in its smallest micro-batches, the limit "
        f"is {limit_bytes / MB:.0f} MB: lower the density"
    )


def run_limited(model: str, plan: Plan, case: Case, limit_bytes: int, steps: int) -> LimitedRun:
    """Train `steps` steps of a case, as `fitting_case` gives it, under a real limit.

    Raises:
        EngineError: the limit is too small.
        WorkerError: the process died; a limit that is too small for it kills it.
    """
    case, needed = fitting_case(plan, case, limit_bytes)
    with tempfile.TemporaryDirectory() as folder, confine(memory=limit_bytes) as place:
        write_case(Path(folder), plan, case)
        draw_inputs([Path(folder)])  # in another process, which is not held to the limit
        contestant = device_engine(plan.name, "sparse", folder, case.threads)
        with Worker(
            replace(contestant, command=tuple(place.command(contestant.command)))
        ) as worker:
            seconds = worker.ask({"steps": steps})["seconds"]
            peak = worker.ask({"peak": True})["bytes"]
    group_peak = place.usage().peak_memory_bytes
    return LimitedRun(
        model=model,
        parameters=plan.num_prunable + plan.num_dense,
        density=sum(case.kept) / plan.num_prunable,
        batch_size=case.batch_size,
        micro_batch=case.micro_batch,
        steps=steps,
        kind=place.report().of(Resource.MEMORY).mechanism.value,
        limit_mb=limit_bytes / MB,
        predicted_mb=needed / MB,
        peak_rss_mb=peak / MB,
        group_peak_mb=None if group_peak is None else group_peak / MB,
        step_ms=1e3 * statistics.median(seconds),
    )


def _array_bytes(plan: Plan, case: Case) -> int:
    """Of the samples, the mask and the weights that a worker holds beside its engine."""
    samples = case.batches * case.batch_size * math.prod(plan.input_shape)
    return FLOAT_BYTES * (samples + sum(case.kept) + plan.num_dense) + plan.num_prunable
