"""Runs several runs at a time, each in a process of its own; one that fails costs no other."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final, TypeAlias

from fedsparse.errors import FedSparseError
from fedsparse.stopping import die_with_parent
from tools.bench.paper.grid import Run
from tools.bench.paper.view import RunsView
from tools.demo.processes import ONE_THREAD

Tell: TypeAlias = Callable[[int, "float | None"], None]
Train: TypeAlias = Callable[[Run, int, Tell], None]  # a run, its workers, whom to tell

POLL_S: Final = 0.5
GRACE_S: Final = 5.0  # a run that is killed goes on from its last snapshot
LOG: Final = "run.log"
LOG_FORMAT: Final = "time=%(asctime)s level=%(levelname)s %(message)s"
INTERRUPTED: Final = "was interrupted; the same command goes on from its last snapshot"
KILLED: Final = "was killed; if memory ran out, take fewer --workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that broke off, and why."""

    run: Run
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    run: Run
    process: multiprocessing.process.BaseProcess
    messages: Connection


def run_all(
    runs: Iterable[Run], *, workers: int, view: RunsView, train: Train
) -> tuple[Failure, ...]:
    """Run what is given, in order, and return what failed.

    With `workers` workers and `n` runs to do, `min(workers, n)` run at once, with an equal part of
    the workers each. However this function is left, no process stays behind; what a run has closed
    by then is on its disk.

    Args:
        runs: unfinished ones.
        workers: at least 1.
        view: is told what happens.
        train: a function of a module (it is called in another process) that runs or resumes one.
    """
    waiting, active, failures = list(runs), list[_Child](), list[Failure]()
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                share = max(1, workers // min(workers, len(waiting) + len(active)))
                view.begin(waiting[0])
                active.append(_start(waiting.pop(0), share, train))
            wait([child.messages for child in active], timeout=POLL_S)
            for child in list(active):
                if (reason := _follow(child, view)) is None:
                    continue
                active.remove(child)
                if reason:
                    failures.append(Failure(run=child.run, reason=reason))
    finally:
        _stop(active)
    return tuple(failures)


def _start(run: Run, workers: int, train: Train) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # threads are ours to place
    arguments = (run, workers, train, theirs)
    process = context.Process(target=_child_main, args=arguments, name=run.name)
    with _uninterrupted():
        process.start()
    theirs.close()
    return _Child(run=run, process=process, messages=ours)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A process that is started here imports undisturbed: it takes interrupts when it can."""
    resource_tracker.ensure_running()  # it is started only once, and would let interrupts through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow(child: _Child, view: RunsView) -> str | None:
    """Pass on what a child said; None while it runs, "" once it is done, else why it failed."""
    ended = child.process.exitcode is not None  # asked first: it may speak and end in between
    with contextlib.suppress(EOFError, OSError):
        while child.messages.poll():
            kind, *values = child.messages.recv()
            if kind == "round":
                view.tell(child.run, *values)
            elif kind == "done":
                return _leave(child, view, "")
            else:
                return _leave(child, view, values[0])
    if not ended:
        return None
    code = child.process.exitcode
    killed = code == -signal.SIGKILL
    return _leave(child, view, KILLED if killed else f"its process ended with {code}")


def _leave(child: _Child, view: RunsView, reason: str) -> str:
    child.process.join(GRACE_S)
    _kill(child)
    child.messages.close()
    if reason:
        view.failed(child.run, reason)
    else:
        view.end(child.run)
    return reason


def _stop(children: Sequence[_Child]) -> None:
    """Ask every child to end, as Ctrl-C would, then make it."""
    try:
        for child in children:
            if child.process.pid is not None and child.process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.process.pid, signal.SIGINT)
        deadline = time.monotonic() + GRACE_S
        for child in children:
            child.process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for child in children:
            _kill(child)
            child.messages.close()


def _kill(child: _Child) -> None:
    """End what is left of a child and of its own children."""
    if child.process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
    if child.process.is_alive():
        child.process.kill()
    child.process.join()


def _child_main(run: Run, workers: int, train: Train, messages: Connection) -> None:
    os.setsid()  # the terminal's Ctrl-C goes to the parent alone, which passes it on
    die_with_parent()
    _log_to(run.folder / LOG)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which nohup has ignored
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        train(run, workers, lambda done, accuracy: messages.send(("round", done, accuracy)))
        messages.send(("done",))
    except KeyboardInterrupt:
        messages.send(("failed", INTERRUPTED))  # if the parent asked for it, it does not read this
    except (FedSparseError, OSError, MemoryError) as error:
        messages.send(("failed", f"{error}" or type(error).__name__))


def _log_to(path: Path) -> None:
    """Keep what the gateway, and Python, warn of; the terminal is for the progress of all runs."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT, handlers=[handler])
    logging.captureWarnings(capture=True)
