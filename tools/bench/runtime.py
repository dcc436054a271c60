"""What a training step costs: each engine in a process of its own, all of a model side by side."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from edge_client.bench.case import Calibrated, Case, kept_at, read_calibrated, write_case
from edge_client.bench.figures import MB, device_engine, device_figures
from edge_client.bench.limits import Limits
from edge_client.bench.race import (
    Contestant,
    Progress,
    Result,
    calibrate,
    draw_inputs,
    python_module,
    race,
    run_once,
)
from fedsparse.errors import ConfigError
from fedsparse.plan import Plan
from tools.bench.targets import verdicts

TORCH: Final = "tools.bench.torch_worker"
EXPORT: Final = "tools.bench.graph_export"
TORCH_ENGINES: Final = {"torch": "dense", "torch_masked": "masked"}
# `dense` is the native engine with dense kernels throughout.
ENGINES: Final = (*TORCH_ENGINES, "graph", "sparse", "dense", "auto")
ONCE: Final = ("torch", "dense")  # a model, not at every density: it makes no difference to them
DENSE_ENGINES: Final = ("dense", "graph")  # that need no torch
DENSE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a benchmark is run.

    Attributes:
        batch_size, threads: of every engine.
        rounds: blocks that each engine does.
        block_s: about how long one takes.
        mask_changes: how often each engine changes its mask afterwards.
        engines: which of `ENGINES` take part; `sparse` and `auto` must.
    """

    batch_size: int = 32
    threads: int = 1
    rounds: int = 15
    block_s: float = 0.15
    mask_changes: int = 5
    engines: tuple[str, ...] = ENGINES


def available_engines(*, with_torch: bool) -> tuple[str, ...]:
    """The engines that can run here.

    Raises:
        ConfigError: torch is asked for and missing.
    """
    if not with_torch:
        without = (*TORCH_ENGINES, "graph")  # which torch exports
        return tuple(name for name in ENGINES if name not in without)
    if find_spec("torch") is None:
        raise ConfigError(
            'torch, which the engines are compared with, is missing: pip install "fedsparse[torch]"'
            ", or leave it out with --no-torch"
        )
    return ENGINES


def measure_model(
    model: str,
    plan: Plan,
    densities: Sequence[float],
    folder: Path,
    conditions: Conditions,
    progress: Progress,
    limits: Limits,
) -> dict[str, dict[str, Any]]:
    """Measure one model: density -> figures, as docs/runtime.md describes them.

    Args:
        model: how the results call it.
        plan: what is trained.
        densities: of every prunable tensor.
        folder: for the cases.
        conditions: how.
        progress: is told what happens.
        limits: of the machine.

    Raises:
        WorkerError: an engine's process died; all are ended.
        EngineError: the sparse engine does not run the plan.
    """
    cases = {
        density: Case(
            kept=kept_at(plan, density),
            batch_size=conditions.batch_size,
            threads=conditions.threads,
        )
        for density in {*densities, DENSE}
    }
    for density, case in cases.items():
        write_case(folder / key(density), plan, case)
    draw_inputs([folder / key(density) for density in cases])
    if "graph" in conditions.engines:
        progress("exporting the graph", 0.0)
        folders = [str(folder / key(density)) for density in cases]
        run_once("the graph's export", python_module(EXPORT, *folders), conditions.threads)
    progress("calibrating", 0.0)
    calibrate([folder / key(density) for density in densities], conditions.threads)
    results = race(
        _contestants(densities, folder, conditions),
        rounds=conditions.rounds,
        block_s=conditions.block_s,
        mask_changes=conditions.mask_changes,
        progress=progress,
    )
    rows = {}
    for density in densities:
        measured = {
            engine: results[_name(engine, density)]
            for engine in conditions.engines
            if _name(engine, density) in results
        }
        calibrated = read_calibrated(folder / key(density))
        row = _row(plan, cases[density], measured, calibrated, limits)
        rows[key(density)] = {**row, "targets": verdicts(model, key(density), row)}
    return rows


def key(density: float) -> str:
    """How the results call a density."""
    return str(float(density))


def _contestants(
    densities: Sequence[float], folder: Path, conditions: Conditions
) -> list[Contestant]:
    chosen = []
    for engine in conditions.engines:
        for density in (DENSE,) if engine in ONCE else densities:
            case = str(folder / key(density))
            name = _name(engine, density)
            chosen.append(
                Contestant(
                    name=name,
                    command=python_module(TORCH, case, TORCH_ENGINES[engine]),
                    threads=conditions.threads,
                    environment={},
                )
                if engine in TORCH_ENGINES
                else device_engine(name, engine, case, conditions.threads)
            )
    return chosen


def _name(engine: str, density: float) -> str:
    return engine if engine in ONCE else f"{engine} {key(density)}"


def _row(
    plan: Plan,
    case: Case,
    measured: Mapping[str, Result],
    calibrated: Calibrated,
    limits: Limits,
) -> dict[str, Any]:
    ms = {name: 1e3 * result.step_s for name, result in measured.items()}
    best_dense = min((ms[name] for name in DENSE_ENGINES if name in ms), default=None)
    return {
        "speedup": _ratio(ms.get("torch"), ms["sparse"]),
        "speedup_vs_graph": _ratio(ms.get("graph"), ms["sparse"]),
        "speedup_vs_masked": _ratio(ms.get("torch_masked"), ms["sparse"]),
        **device_figures(plan, case, measured["sparse"], limits),
        **{f"{name}_ms": ms.get(name) for name in ENGINES if name != "sparse"},
        **{
            f"{name}_peak_rss_mb": result.peak_bytes / MB
            for name, result in measured.items()
            if name != "sparse"
        },
        "auto_speedup": _ratio(ms.get("torch"), ms["auto"]),
        "auto_vs_best_dense": _ratio(ms["auto"], best_dense),
        "auto_setup": asdict(calibrated.setup),
        "predicted_step_ms": 1e3 * calibrated.step_s,
        "quartiles_ms": {name: _quartiles(result) for name, result in measured.items()},
    }


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one / other


def _quartiles(result: Result) -> list[float]:
    if len(result.blocks) < 2:
        return [1e3 * result.step_s] * 2
    low, _, high = statistics.quantiles(result.blocks, n=4)
    return [1e3 * low, 1e3 * high]
