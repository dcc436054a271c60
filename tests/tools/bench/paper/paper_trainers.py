"""What stands in for the simulator, in the processes that the runner starts."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from pathlib import Path

import numpy as np
from paper_runs import plain, write_record

from fedsparse.errors import EngineError
from fedsparse.types import Weights
from tools.bench.paper.grid import Run
from tools.bench.paper.runner import Tell, Train
from tools.simulation.pool import Pool
from tools.simulation.spec import claim
from tools.simulation.worker import ScoreOrder

SCORES = {"dense": 0.9, "spdst": 0.88, "jmwst": 0.8}
IMPORTING = "FEDSPARSE_TEST_IMPORTING"  # names a pipe: a run's process waits on it while it imports

if IMPORTING in os.environ:
    Path(os.environ[IMPORTING]).read_bytes()


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


def wait_in_a_worker(run: Run, workers: int, tell: Tell) -> None:
    """A worker waits for ever for samples that come through a pipe."""
    none = np.empty(0, np.float32)
    order = ScoreOrder(
        mask=b"",
        weights=Weights(prunable=none, dense=none),
        samples=run.folder.parents[1] / "pids",
        first=0,
        last=1,
    )
    with Pool(run.spec.load_plan(), "sparse", 2) as pool:
        pool.score([order])


def interrupt_itself(run: Run, workers: int, tell: Tell) -> None:
    """As if the user meant the dense runs' processes."""
    if run.case == "dense":
        os.kill(os.getpid(), signal.SIGINT)
    finish(run, workers, tell)


def grumble(run: Run, workers: int, tell: Tell) -> None:
    """Says in passing what a gateway's log is for."""
    claim(run.folder, run.spec)
    logging.getLogger("aggregator").warning("rejected=%s reason=%r", "client-0001", "NaN")
    warnings.warn("overflow in multiply", RuntimeWarning, stacklevel=1)
    finish(run, workers, tell)


def block_until_interrupted(experiment: Path, output: Path, train: Train, importing: str) -> int:
    """`fedsparse bench paper` with runs that never end, or that wait for a pipe to import this."""
    from tools.bench.paper.command import PaperRequest, run_paper

    if importing:
        os.environ[IMPORTING] = importing
    request = PaperRequest(experiment=str(experiment), output=output, workers=1)
    return run_paper(request, train)
