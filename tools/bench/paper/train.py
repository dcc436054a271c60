"""One run of the grid in the simulator, and what can be found out before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.paper.grid import Run
from tools.simulation.data import open_split
from tools.simulation.record import RECORDS, read_records
from tools.simulation.run import simulate
from tools.simulation.spec import claim


def train_run(run: Run, workers: int, tell: Callable[[int, float | None], None]) -> None:
    """Run or resume one; `tell` hears of every round that is closed anew, and of the last score.

    Raises:
        FedSparseError: it cannot be run, or training diverged; `OSError` where the disk is full.
    """
    largest = f"{run.spec.method.levels[0]:g}"
    old = len(read_records(run.folder / RECORDS))  # are told again, or done again
    told, score = 0, None

    def closed(found: Mapping[str, Any]) -> None:
        nonlocal told, score
        told, score = told + 1, found["accuracy"].get(largest, score)
        if told > old and found["stage"] == "train":
            tell(int(found["round"]), score)

    simulate(run.spec, run.folder, data=data_folder(run), workers=workers, progress=closed)


def data_folder(run: Run) -> Path:
    """Where the samples of clients are prepared, for all experiments of an output folder."""
    return run.folder.parents[2] / ".data"


def check_specs(runs: Sequence[Run]) -> None:
    """See that the folders that exist hold what the experiment says.

    Raises:
        ConfigError: a run was started with other settings; the message names them.
    """
    for run in runs:
        if run.folder.exists():
            claim(run.folder, run.spec)


def check_data(runs: Sequence[Run]) -> None:
    """Prepare the data of the first run: what is wrong with them shows before anything starts.

    Raises:
        DataError: they cannot be fetched, are damaged, or cannot be divided so.
    """
    open_split(runs[0].spec, data_folder(runs[0]))
