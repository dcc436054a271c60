"""What a training step costs: each engine in a process of its own, all of a model side by side."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from edge_client.bench.case import Case, kept_at, write_case
from edge_client.bench.limits import copy_limit
from edge_client.bench.race import (
    DEVICE_ENVIRONMENT,
    Contestant,
    Progress,
    Result,
    draw_inputs,
    race,
)
from edge_client.bench.work import step_work
from edge_client.runtime.cost import sparse_cost
from edge_client.runtime.native.library import load_library
from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import ConfigError
from fedsparse.plan import Plan
from tools.bench.targets import verdicts

MB: Final = 1e6
DEVICE: Final = "edge_client.bench.worker"
TORCH: Final = "tools.bench.torch_worker"
# Engine -> module and second argument of its worker. `torch` runs once a model, the others at every
# density.
ENGINES: Final[Mapping[str, tuple[str, str]]] = {
    "torch": (TORCH, "dense"),
    "torch_masked": (TORCH, "masked"),
    "sparse": (DEVICE, "sparse"),
}
ONCE: Final = "torch"
DENSE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a benchmark is run.

    Attributes:
        batch_size, threads: of every engine.
        rounds: blocks that each engine does.
        block_s: about how long one takes.
        mask_changes: how often each engine changes its mask afterwards.
        engines: which of `ENGINES` take part; `sparse` must.
    """

    batch_size: int = 32
    threads: int = 1
    rounds: int = 15
    block_s: float = 0.15
    mask_changes: int = 5
    engines: tuple[str, ...] = tuple(ENGINES)


def available_engines(*, with_torch: bool) -> tuple[str, ...]:
    """The engines that can run here.

    Raises:
        ConfigError: torch is asked for and missing.
    """
    if not with_torch:
        return tuple(name for name, (module, _) in ENGINES.items() if module != TORCH)
    if find_spec("torch") is None:
        raise ConfigError(
            'torch, which the engines are compared with, is missing: pip install "fedsparse[torch]"'
            ", or leave it out with --no-torch"
        )
    return tuple(ENGINES)


def measure_model(
    model: str,
    plan: Plan,
    densities: Sequence[float],
    folder: Path,
    conditions: Conditions,
    progress: Progress,
    fma_per_s: float,
) -> dict[str, dict[str, Any]]:
    """Measure one model: density -> figures, as docs/runtime.md describes them.

    Args:
        model: how the results call it.
        plan: what is trained.
        densities: of every prunable tensor.
        folder: for the cases.
        conditions: how.
        progress: is told what happens.
        fma_per_s: the machine's limit.

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
        row = _row(plan, cases[density], measured, fma_per_s)
        rows[key(density)] = {**row, "targets": verdicts(model, key(density), row)}
    return rows


def key(density: float) -> str:
    """How the results call a density."""
    return str(float(density))


def write_results(path: Path, header: Mapping[str, Any], rows: Mapping[str, Any]) -> None:
    """Write `{"header": ..., model: {density: {...}}}`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"header": header, **rows}, indent=2) + "\n", encoding="utf-8")


def _contestants(
    densities: Sequence[float], folder: Path, conditions: Conditions
) -> list[Contestant]:
    chosen = []
    for engine in conditions.engines:
        module, kind = ENGINES[engine]
        for density in (DENSE,) if engine == ONCE else densities:
            chosen.append(
                Contestant(
                    name=_name(engine, density),
                    module=module,
                    arguments=(str(folder / key(density)), kind),
                    threads=conditions.threads,
                    environment={} if module == TORCH else DEVICE_ENVIRONMENT,
                )
            )
    return chosen


def _name(engine: str, density: float) -> str:
    return engine if engine == ONCE else f"{engine} {key(density)}"


def _row(
    plan: Plan, case: Case, measured: Mapping[str, Result], fma_per_s: float
) -> dict[str, Any]:
    sparse = measured["sparse"]
    milliseconds = {name: 1e3 * result.step_s for name, result in measured.items()}
    step_ms = milliseconds["sparse"]

    def against(engine: str) -> float | None:
        return milliseconds[engine] / step_ms if engine in milliseconds else None

    setup = _setup(sparse)
    cost = sparse_cost(plan, case.kept, case.batch_size, setup=setup)
    baseline = sparse.facts["baseline_bytes"]
    return {
        "speedup": against("torch"),
        "speedup_vs_graph": against("graph"),
        "step_ms": step_ms,
        "peak_rss_mb": sparse.peak_bytes / MB,
        "predicted_peak_mb": (baseline + cost.peak_bytes) / MB,
        "baseline_mb": baseline / MB,
        "speedup_vs_masked": against("torch_masked"),
        **{f"{name}_ms": milliseconds.get(name) for name in ("torch", "torch_masked", "graph")},
        **{
            f"{name}_peak_rss_mb": result.peak_bytes / MB
            for name, result in measured.items()
            if name != "sparse"
        },
        "setup_ms": 1e3 * sparse.facts["built_s"],
        "mask_change_ms": 1e3 * sparse.mask_change_s,
        "kept": sum(case.kept),
        "parameters": plan.num_prunable + plan.num_dense,
        **_fractions(plan, case, sparse.step_s, fma_per_s),
        "quartiles_ms": {name: _quartiles(result) for name, result in measured.items()},
    }


def _setup(result: Result) -> EngineSetup:
    facts = result.facts["setup"]
    return EngineSetup(**{**facts, "dense_layers": tuple(facts["dense_layers"])})


def _fractions(plan: Plan, case: Case, step_s: float, fma_per_s: float) -> dict[str, float]:
    """Of the machine's limits: multiply-adds of the products, and bytes of all buffers."""
    work = step_work(plan, case.kept, case.batch_size)
    threads = case.threads
    memory_per_s = copy_limit(load_library(), work.arena_bytes)
    return {
        "multiply_adds": work.multiply_adds,
        "moved_mb": work.moved_bytes / MB,
        "fraction_of_fma_peak": work.multiply_adds / step_s / fma_per_s / threads,
        "fraction_of_memory_limit": work.moved_bytes / step_s / memory_per_s,
    }


def _quartiles(result: Result) -> list[float]:
    if len(result.blocks) < 2:
        return [1e3 * result.step_s] * 2
    low, _, high = statistics.quantiles(result.blocks, n=4)
    return [1e3 * low, 1e3 * high]
