"""`fedsparse bench threads`, from its options to its file and table."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fedsparse.plan.finding import find_plan
from tools.bench.document import header, tell_of, write_document
from tools.bench.progress import ProgressLine
from tools.bench.threads import ThreadsRow, measure_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadsRequest:
    """What is asked for on the command line."""

    models: tuple[str, ...]
    densities: tuple[float, ...]
    threads: tuple[int, ...]
    batch_size: int
    rounds: int
    block_s: float
    output: Path
    as_json: bool


def run_threads(request: ThreadsRequest) -> bool:
    """Measure, write the results, print them; returns whether no case is slower with more threads.

    Raises:
        ConfigError: a model is unknown.
        WorkerError: a process died.
    """
    plans = {name: find_plan(name) for name in request.models}
    rows: list[ThreadsRow] = []
    with ProgressLine(len(plans)) as progress, tempfile.TemporaryDirectory() as folder:
        for name, plan in plans.items():
            progress.begin(name)
            rows += measure_threads(
                name,
                plan,
                request.densities,
                tuple(sorted({1, *request.threads})),
                Path(folder) / plan.digest[:12],
                batch_size=request.batch_size,
                rounds=request.rounds,
                block_s=request.block_s,
                progress=progress.tell,
            )
            progress.end()
    document = {
        "header": header(batch_size=request.batch_size),
        "rows": [row.to_document() for row in rows],
    }
    write_document(request.output, document)
    tell_of(request.output, as_json=request.as_json)
    if not request.as_json:
        Console().print(threads_table(rows))
    return all(row.holds for row in rows)


def threads_table(rows: Sequence[ThreadsRow]) -> Table:
    """One row a model and density; a case that threads make slower is marked."""
    table = Table(
        title="ms of a step by threads",
        caption="slowest: several threads against one; ! = more than 5 % slower",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("model")
    for name in ("density", *map(str, rows[0].step_ms), "slowest"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.model,
            f"{row.density:g}",
            *(f"{ms:.2f}" for ms in row.step_ms.values()),
            f"{row.slowdown:.2f}{'' if row.holds else ' !'}",
        )
    return table
