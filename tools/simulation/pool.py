"""Workers in processes of their own, or in this one."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Final

from fedsparse.errors import EngineError, LocalProtocolError
from fedsparse.plan import Plan
from fedsparse.stopping import die_with_parent
from fedsparse.wire.messages import Evaluation
from tools.simulation.spec import SimulationError
from tools.simulation.worker import ScoreOrder, TrainAnswer, TrainOrder, Worker

THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Pool:
    """Does orders side by side; answers come in the order of the orders.

    Args:
        plan, engine: of every worker.
        workers: how many; a single one works in this process.
    """

    def __init__(self, plan: Plan, engine: str, workers: int) -> None:
        self._worker = Worker(plan, engine) if workers == 1 else None
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            for name in THREADS:  # threads of a library would compete with the workers
                os.environ.setdefault(name, "1")
            self._pool = ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(plan.to_json(), engine),
            )

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is None:
            return
        if error is not None:  # nobody takes in what the workers are at: do not wait for it
            for process in list(self._pool._processes.values()):
                process.kill()
        self._pool.shutdown(cancel_futures=True)

    def train(self, orders: Sequence[TrainOrder]) -> list[TrainAnswer]:
        """Do tasks; one that fails says why in its answer."""
        if self._worker is not None:
            return [_attempt(self._worker, order) for order in orders]
        try:
            return list(self._processes.map(_train, orders))
        except BrokenProcessPool as error:
            raise SimulationError(LOST_WORKER) from error

    def score(self, orders: Sequence[ScoreOrder]) -> list[Evaluation]:
        """Score models; raises `EngineError` where outputs are not finite."""
        if self._worker is not None:
            return [self._worker.score(order) for order in orders]
        try:
            return list(self._processes.map(_score, orders))
        except BrokenProcessPool as error:
            raise SimulationError(LOST_WORKER) from error

    @property
    def _processes(self) -> ProcessPoolExecutor:
        assert self._pool is not None  # noqa: S101 (there are either processes or a worker)
        return self._pool


LOST_WORKER: Final = (
    "a worker process ended early (out of memory?): start the same command again, with fewer "
    "--workers if need be; it goes on where it was"
)
_here: list[Worker] = []  # of a worker process: its one worker


def _begin(plan: str, engine: str) -> None:
    die_with_parent()
    _here.append(Worker(Plan.from_json(plan), engine))


def _train(order: TrainOrder) -> TrainAnswer:
    return _attempt(_here[0], order)


def _score(order: ScoreOrder) -> Evaluation:
    return _here[0].score(order)


def _attempt(worker: Worker, order: TrainOrder) -> TrainAnswer:
    try:
        return worker.train(order)
    except (EngineError, LocalProtocolError) as error:  # training diverged
        return TrainAnswer(failure=str(error))
