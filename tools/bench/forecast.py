"""Predictions against measurements: the memory and the time that a budget relies on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_client.bench.case import Case, kept_at, read_calibrated, write_case
from edge_client.bench.figures import MB, device_engine
from edge_client.bench.race import Progress, Result, calibrate, draw_inputs, race
from edge_client.runtime.cost import sparse_cost
from fedsparse.plan import Plan
from tools.bench.tolerance import error, memory_holds, time_holds


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRow:
    """One case: MB are 1e6 bytes that training adds to the process, ms those of a step."""

    model: str
    density: float
    batch_size: int
    predicted_mb: float
    measured_mb: float
    predicted_ms: float
    measured_ms: float

    @property
    def memory_error(self) -> float:
        """How far the prediction is above what was measured, as a share of that."""
        return error(self.predicted_mb, self.measured_mb)

    @property
    def memory_holds(self) -> bool:
        """Whether the predicted memory is as near as it must be."""
        return memory_holds(self.predicted_mb, self.measured_mb)

    @property
    def time_error(self) -> float:
        """As `memory_error`, of the time of a step."""
        return error(self.predicted_ms, self.measured_ms)

    @property
    def time_holds(self) -> bool:
        """Whether the predicted time is as near as it must be."""
        return time_holds(self.predicted_ms, self.measured_ms)

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            **{
                name: getattr(self, name)
                for name in ("memory_error", "memory_holds", "time_error", "time_holds")
            },
        }


def measure_forecast(
    model: str,
    plan: Plan,
    densities: Sequence[float],
    batch_size: int,
    folder: Path,
    *,
    rounds: int,
    block_s: float,
    progress: Progress,
) -> list[ForecastRow]:
    """Calibrate, then train as calibration says; one row for each density.

    Args:
        model: how the rows call it.
        plan: what is trained.
        densities: of every prunable tensor.
        batch_size: of the steps.
        folder: for the cases.
        rounds: blocks of each density.
        block_s: about how long one takes.
        progress: is told what happens.

    Raises:
        WorkerError: a process died.
    """
    cases = {
        density: Case(kept=kept_at(plan, density), batch_size=batch_size) for density in densities
    }
    folders = {density: folder / str(density) for density in cases}
    for density, case in cases.items():
        write_case(folders[density], plan, case)
    draw_inputs(list(folders.values()))
    progress("calibrating", 0.0)
    calibrate(list(folders.values()), 1)
    results = race(
        [device_engine(str(one), "auto", str(folders[one]), 1) for one in densities],
        rounds=rounds,
        block_s=block_s,
        progress=progress,
    )
    return [
        _row(model, plan, density, cases[density], folders[density], results[str(density)])
        for density in densities
    ]


def _row(
    model: str, plan: Plan, density: float, case: Case, folder: Path, result: Result
) -> ForecastRow:
    calibrated = read_calibrated(folder)
    cost = sparse_cost(plan, case.kept, case.batch_size, setup=calibrated.setup)
    return ForecastRow(
        model=model,
        density=density,
        batch_size=case.batch_size,
        predicted_mb=cost.peak_bytes / MB,
        measured_mb=(result.peak_bytes - result.facts["baseline_bytes"]) / MB,
        predicted_ms=1e3 * calibrated.step_s,
        measured_ms=1e3 * result.step_s,
    )
