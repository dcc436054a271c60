"""What stands in for the simulator, in the processes that the runner starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from paper_runs import plain, write_record

from fedsparse.errors import EngineError
from tools.bench.paper.grid import Run
from tools.simulation.spec import claim

Tell = Callable[[int, "float | None"], None]
SCORES = {"dense": 0.9, "spdst": 0.88, "jmwst": 0.8}


def finish(run: Run, workers: int, tell: Tell) -> None:
    """Done at once; notes how often it was run, with how many workers."""
    claim(run.folder, run.spec)
    with (run.folder / "starts").open("a", encoding="utf-8") as file:
        file.write(f"{workers}\n")
    for number in range(1, run.spec.rounds + 1):
        tell(number, None if number == 1 else 0.5)
    level = run.spec.method.levels[0]
    write_record(
        run.folder,
        plain(run.case, level, SCORES[run.case], alpha=run.alpha, seed=run.seed),
    )


def diverge_once(run: Run, workers: int, tell: Tell) -> None:
    """The sparse runs fail the first time."""
    failed = run.folder / "failed"
    if run.case == "spdst" and not failed.exists():
        claim(run.folder, run.spec)
        failed.touch()
        raise EngineError("training diverged in round 3: the loss is nan")
    finish(run, workers, tell)


def die(run: Run, workers: int, tell: Tell) -> None:
    """As if memory ran out, in the dense runs."""
    if run.case == "dense":
        os.kill(os.getpid(), signal.SIGKILL)
    finish(run, workers, tell)


def meet(run: Run, workers: int, tell: Tell) -> None:
    """Ends only once another run is there at the same time."""
    path = run.folder.parents[1] / "meeting"
    with path.open("w" if run.case == "dense" else "r", encoding="utf-8"):
        finish(run, workers, tell)


def wait_for_ever(run: Run, workers: int, tell: Tell) -> None:
    """Says which process it is and holds the pipe open until it ends."""
    tell(1, None)
    with (run.folder.parents[1] / "pids").open("w", encoding="utf-8") as pipe:
        pipe.write(f"{os.getpid()}\n")
        pipe.flush()
        signal.pause()


def block_until_interrupted(experiment: Path, output: Path) -> int:
    """`fedsparse bench paper` with runs that never end."""
    from tools.bench.paper.command import PaperRequest, run_paper

    request = PaperRequest(experiment=str(experiment), output=output, workers=1)
    return run_paper(request, wait_for_ever)
