"""`fedsparse bench runtime`, from its options to its files and tables."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from edge_client.bench.limits import measure_limits
from edge_client.runtime.native.library import load_library
from fedsparse.plan.finding import find_plan
from tools.bench.document import header, tell_of, write_document
from tools.bench.progress import ProgressLine
from tools.bench.runtime import Conditions, measure_model
from tools.bench.runtime_view import results_table, targets_table

METHOD: Final = (
    "A process for each engine, same masks, weights, batches and threads for all; the engines of a "
    "model do blocks of steps in turn (a warm-up step before each block); step = median over the "
    "blocks of the blocks' medians; speedup = torch eager / sparse. peak_rss = VmHWM of the "
    "process at the end of training; predicted_peak = resident memory before the engine is built "
    "+ its cost. MB = 1e6 bytes. Uniform density over the prunable tensors."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRequest:
    """What is asked for on the command line."""

    models: tuple[str, ...]
    densities: tuple[float, ...]
    conditions: Conditions
    output: Path
    as_json: bool


def run_runtime(request: RuntimeRequest) -> None:
    """Measure, write the results after every model, print them.

    Raises:
        ConfigError: a model is unknown.
        WorkerError: an engine's process died.
    """
    plans = {name: find_plan(name) for name in request.models}
    limits = measure_limits(load_library())
    about = header(
        limits=limits.to_document(), method=METHOD, conditions=asdict(request.conditions)
    )
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    with ProgressLine(len(plans)) as progress, tempfile.TemporaryDirectory() as folder:
        for name, plan in plans.items():
            progress.begin(name)
            rows[name] = measure_model(
                name,
                plan,
                request.densities,
                Path(folder) / plan.digest[:12],
                request.conditions,
                progress.tell,
                limits,
            )
            progress.end()
            write_document(request.output, {"header": about, **rows})
    _print(request, about, rows)


def _print(request: RuntimeRequest, about: Mapping[str, Any], rows: Mapping[str, Any]) -> None:
    tell_of(request.output, as_json=request.as_json)
    if request.as_json:
        return
    console, conditions = Console(), request.conditions
    machine = about["machine"]
    title = (
        f"batch {conditions.batch_size}, {conditions.threads} thread(s), "
        f"{machine.get('cpu') or machine['board']}"
    )
    console.print(results_table(rows, title))
    console.print(targets_table(rows))
