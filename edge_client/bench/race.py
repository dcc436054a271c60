"""Engines measured side by side: a process each, driven in turn, block by block. No numpy."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from fedsparse.errors import FedSparseError

PATIENCE_S: Final = 300.0  # a worker that says nothing for so long is stuck
GRACE_S: Final = 5.0
STDERR_TAIL_BYTES: Final = 2000
THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# As the agent starts trainers: arrays go back to the system as soon as they are freed.
DEVICE_ENVIRONMENT: Final = {"MALLOC_MMAP_THRESHOLD_": "131072"}
MAX_STEPS: Final = 500

Progress = Callable[[str, float], None]  # (what is being done, share that is done)


class WorkerError(FedSparseError):
    """A worker of a measurement died or fell silent; the message has its last words."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """What is measured.

    Attributes:
        name: how results and messages call it.
        command: starts its worker.
        environment: what its worker gets beside the thread limits.
    """

    name: str
    command: tuple[str, ...]
    threads: int = 1
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured of one contestant.

    Attributes:
        blocks: (rounds,) seconds of a step, the median of each block.
        peak_bytes: the highest resident memory of its process after all steps.
        mask_change_s: seconds of a change of the mask, the median of several; 0 if not asked for.
        facts: what its worker said of itself.
    """

    blocks: tuple[float, ...]
    peak_bytes: int
    mask_change_s: float
    facts: Mapping[str, Any]

    @property
    def step_s(self) -> float:
        """Seconds of a step: the median over the blocks."""
        return statistics.median(self.blocks)


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of ours with this interpreter."""
    return (sys.executable, "-m", module, *arguments)


class Worker:
    """One worker process; a context manager that ends it.

    Raises:
        WorkerError: it died, or said nothing for `patience_s`.
    """

    def __init__(self, contestant: Contestant, *, patience_s: float = PATIENCE_S) -> None:
        self.name = contestant.name
        self._patience_s = patience_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            contestant.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(contestant),
        )
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, command: Mapping[str, object]) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        stdin = self._process.stdin
        if stdin is None:
            raise ValueError("a worker is asked through its standard input")
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._error("died") from None
        return self._answer()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        stdout = self._process.stdout
        if stdout is None:
            raise ValueError("a worker answers on its standard output")
        if not select.select([stdout], [], [], self._patience_s)[0]:
            raise self._error(f"said nothing for {self._patience_s:.0f} s")
        line = stdout.readline()
        if not line.endswith(b"\n"):
            raise self._error("died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _error(self, what: str) -> WorkerError:
        if what == "died":
            what = self._ending()
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - STDERR_TAIL_BYTES))
        words = self._stderr.read().decode(errors="replace").strip() or "(it wrote nothing)"
        return WorkerError(f"the worker '{self.name}' {what}:\n{words}")

    def _ending(self) -> str:
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return "closed its output"
        if code >= 0:
            return f"ended with code {code}"
        memory = ", probably for want of memory" if code == -signal.SIGKILL else ""
        return f"died of {signal.Signals(-code).name}{memory}"


def race(
    contestants: Sequence[Contestant],
    *,
    rounds: int,
    block_s: float,
    mask_changes: int = 0,
    progress: Progress = lambda _name, _share: None,
) -> dict[str, Result]:
    """Measure all contestants in the same minutes.

    All workers are started, one after the other; then, `rounds` times, each does one block of steps
    while the others wait, in turn from the first to the last and from the last to the first.

    Args:
        contestants: with names that differ.
        rounds: blocks of each.
        block_s: about how long a block takes; it has at least two steps, and one before that.
        mask_changes: how often each changes its mask after that.
        progress: is told what happens.

    Raises:
        WorkerError: a worker died or fell silent; all are ended.
    """
    total = len(contestants) * (rounds + 1)
    done = 0
    blocks: dict[str, list[float]] = {one.name: [] for one in contestants}
    with ExitStack() as stack:
        workers, steps = [], {}
        for contestant in contestants:
            progress(f"starting {contestant.name}", done / total)
            worker = stack.enter_context(Worker(contestant))
            workers.append(worker)
            steps[worker.name] = _steps(worker, block_s)
            done += 1
        for turn in range(rounds):
            for worker in _there_and_back(workers, turn):
                progress(worker.name, done / total)
                seconds = worker.ask({"steps": steps[worker.name]})["seconds"]
                blocks[worker.name].append(statistics.median(seconds))
                done += 1
        return {
            worker.name: _result(worker, blocks[worker.name], mask_changes) for worker in workers
        }


def _steps(worker: Worker, block_s: float) -> int:
    """How many steps make a block."""
    first: float = statistics.median(worker.ask({"steps": 2})["seconds"])
    return min(MAX_STEPS, max(2, round(block_s / first)))


def _there_and_back(workers: Sequence[Worker], turn: int) -> Iterable[Worker]:
    return workers if turn % 2 == 0 else reversed(workers)


def _result(worker: Worker, blocks: Sequence[float], mask_changes: int) -> Result:
    peak = int(worker.ask({"peak": True})["bytes"])  # before masks change: that is another peak
    changes = [worker.ask({"mask": True})["seconds"] for _ in range(mask_changes)]
    return Result(
        blocks=tuple(blocks),
        peak_bytes=peak,
        mask_change_s=statistics.median(changes) if changes else 0.0,
        facts=worker.facts,
    )


def draw_inputs(folders: Sequence[Path]) -> None:
    """Add the arrays to cases that are described, in a process of its own.

    Raises:
        WorkerError: it failed.
    """
    run_once("drawing the arrays", python_module("edge_client.bench.inputs", *map(str, folders)), 1)


def calibrate(folders: Sequence[Path], threads: int) -> None:
    """Calibrate cases of one plan and batch, in a process of its own, as a device does.

    Raises:
        WorkerError: it failed.
    """
    command = python_module("edge_client.bench.calibrated", *map(str, folders))
    run_once("the calibration", command, threads)


def run_once(name: str, command: tuple[str, ...], threads: int) -> None:
    """Run a helper process to its end.

    Raises:
        WorkerError: it failed; the message has its name and its last words.
    """
    one = Contestant(name=name, command=command, threads=threads, environment=DEVICE_ENVIRONMENT)
    done = subprocess.run(command, env=_environment(one), capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise WorkerError(f"{name} failed:\n{words[-STDERR_TAIL_BYTES:]}")


def _environment(contestant: Contestant) -> dict[str, str]:
    threads = dict.fromkeys(THREADS, str(contestant.threads))
    return {**os.environ, **_path(), **threads, **contestant.environment}


def _path() -> dict[str, str]:
    """The packages that this code is from, before others of the same name."""
    root = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
