"""`fedsparse bench forecast`, from its options to its file and table."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fedsparse.plan.finding import find_plan
from tools.bench.document import header, tell_of, write_document
from tools.bench.forecast import ForecastRow, measure_forecast
from tools.bench.progress import ProgressLine
from tools.bench.tolerance import HOLDS, percent_off

METHOD: Final = (
    "A process for each case, as a trainer's. measured_mb: by how much its highest resident memory "
    "exceeds what it had before the engine was built; predicted_mb: the engine's cost. "
    "predicted_ms: of a calibration just before, in a process of its own; measured_ms: median over "
    "blocks of steps. MB = 1e6 bytes."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRequest:
    """What is asked for on the command line."""

    models: tuple[str, ...]
    densities: tuple[float, ...]
    batches: tuple[int, ...]
    rounds: int
    block_s: float
    output: Path
    as_json: bool


def run_forecast(request: ForecastRequest) -> bool:
    """Measure, write the results, print them; returns whether every prediction holds.

    Raises:
        ConfigError: a model is unknown.
        WorkerError: a process died.
    """
    plans = {name: find_plan(name) for name in request.models}
    about = header(method=METHOD, holds=HOLDS)
    pairs = list(product(plans, request.batches))
    rows: list[ForecastRow] = []
    with ProgressLine(len(pairs)) as progress, tempfile.TemporaryDirectory() as folder:
        for name, batch in pairs:
            progress.begin(f"{name}, batch {batch}")
            rows += measure_forecast(
                name,
                plans[name],
                request.densities,
                batch,
                Path(folder) / f"{plans[name].digest[:12]}-{batch}",
                rounds=request.rounds,
                block_s=request.block_s,
                progress=progress.tell,
            )
            progress.end()
            document = {"header": about, "rows": [row.to_document() for row in rows]}
            write_document(request.output, document)
    tell_of(request.output, as_json=request.as_json)
    if not request.as_json:
        Console().print(forecast_table(rows))
    return all(row.memory_holds and row.time_holds for row in rows)


def forecast_table(rows: Sequence[ForecastRow]) -> Table:
    """One row a case; what does not hold is marked."""
    table = Table(
        title="what training adds to memory, and a step's time: predicted and measured",
        caption=_caption(rows),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("model")
    for name in ("density", "batch", "MB pred.", "meas.", "off", "ms pred.", "meas.", "off"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.model,
            f"{row.density:g}",
            str(row.batch_size),
            f"{row.predicted_mb:.2f}",
            f"{row.measured_mb:.2f}",
            percent_off(row.memory_error, holds=row.memory_holds),
            f"{row.predicted_ms:.2f}",
            f"{row.measured_ms:.2f}",
            percent_off(row.time_error, holds=row.time_holds),
        )
    return table


def _caption(rows: Sequence[ForecastRow]) -> str:
    memory, time = sum(row.memory_holds for row in rows), sum(row.time_holds for row in rows)
    return f"of {len(rows)}, {memory} hold in memory and {time} in time (! = not): {HOLDS}"
