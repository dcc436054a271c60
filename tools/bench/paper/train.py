"""One run of the grid in the simulator, and what can be found out before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.paper.grid import Run
from tools.bench.paper.records import count_closed
from tools.simulation.data import open_split
from tools.simulation.run import simulate
from tools.simulation.spec import claim


def train_run(run: Run, workers: int, tell: Callable[[int, float | None], None]) -> None:
    """Run or resume one; `tell` hears of every training round that is closed anew, and a score.

    It is the last one of a training round: the model of stage 1 is thrown away.

    Raises:
        FedSparseError: it cannot be run, or training diverged; `OSError` where the disk is full.
    """
    largest = f"{run.spec.method.levels[0]:g}"
    layers = len(run.spec.load_plan().prunable)
    old = count_closed(run.folder, layers)  # are told again, or done again
    told, score = 0, None

    def closed(found: Mapping[str, Any]) -> None:
        nonlocal told, score
        told += 1
        if found["stage"] != "train":
            return
        score = found["accuracy"].get(largest, score)
        if told > old:
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
        if run.folder.is_dir() and not any(run.folder.iterdir()):
            continue  # nobody's yet; nothing is claimed here
        if run.folder.exists():
            claim(run.folder, run.spec)


def check_data(runs: Sequence[Run]) -> None:
    """Prepare the data of the first run: what is wrong with them shows before anything starts.

    Raises:
        DataError: they cannot be fetched, are damaged, or cannot be divided so.
    """
    open_split(runs[0].spec, data_folder(runs[0]))
