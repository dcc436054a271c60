"""The demo's child processes: each in a group of its own, with a log, and none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Final

from fedsparse.errors import FedSparseError

GRACE_S: Final = 5.0
LOG_LINES: Final = 15
ONE_THREAD: Final = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip


Launch = Callable[..., subprocess.Popen[Any]]


class RunFailedError(FedSparseError):
    """A run broke off; the message holds what happened, the log's end and what to do."""

    exit_code: ClassVar[int] = 1


@dataclass(slots=True, kw_only=True)
class Child:
    """One process, its command, and where it writes."""

    name: str
    command: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes]
    launch: Launch = subprocess.Popen

    @property
    def pid(self) -> int:
        """The process, which also leads its group."""
        return self.process.pid

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and to its own children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class Children:
    """Starts processes and ends them all when the block is left, however it is left.

    Args:
        folder: where they run; it holds no packages, so nothing there can shadow ours.
        logs: one file a process: stdout and stderr.
    """

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder = folder
        self._logs = logs
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Children:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop_all()

    def __getitem__(self, name: str) -> Child:
        return self._children[name]

    def start(self, name: str, command: Sequence[str], launch: Launch = subprocess.Popen) -> Child:
        """Start a process; a second start under one name appends to its log.

        Args:
            name: of its log.
            command: program and arguments.
            launch: what starts it, with the arguments of `subprocess.Popen`.
        """
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = launch(
                command,
                cwd=self._folder,
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name=name, command=tuple(command), log=log, process=process, launch=launch)
        self._children[name] = child
        return child

    def kill(self, name: str) -> None:
        """SIGKILL a process and its children, as a power cut would, and reap it."""
        child = self._children[name]
        child.signal_group(signal.SIGKILL)
        child.process.wait()

    def restart(self, name: str) -> Child:
        """Start a process again with its command."""
        child = self._children[name]
        return self.start(name, child.command, child.launch)

    def ended(self) -> list[Child]:
        """The processes that have exited."""
        return [child for child in self._children.values() if child.process.poll() is not None]

    def stop_all(self, grace_s: float = GRACE_S) -> None:
        """Ask every process to end, then make it; returns when all are gone."""
        children = list(self._children.values())
        try:
            for child in children:
                child.signal_group(signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            for child in children:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for child in children:
                child.signal_group(signal.SIGKILL)
                child.process.wait()


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs one of our modules with this interpreter."""
    return (sys.executable, "-m", module, *arguments)


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: our packages on its path, one thread a library, unbuffered output."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, base.get("PYTHONPATH", "")]))
    threads = dict.fromkeys(ONE_THREAD, "1")
    return {**base, **threads, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def last_lines(log: Path, count: int = LOG_LINES) -> str:
    """The end of a log, indented; a note when there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"


def describe_exit(child: Child) -> str:
    """What became of a process that ended, with the end of its log."""
    code = child.process.returncode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    hint = ""
    if code == -signal.SIGKILL:
        hint = "\nIf the machine ran out of memory, end other programs or lower --devices."
    return f"{child.name} {how}. The end of {child.log}:\n{last_lines(child.log)}{hint}"


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP leave the block through an exception, as Ctrl-C does, so it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _exit) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
