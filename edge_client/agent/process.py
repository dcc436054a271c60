"""The trainer as a child process: started, watched, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from edge_client.trainer.request import (
    EXIT_BAD_DATA,
    EXIT_MASK_MISSING,
    EXIT_NO_MEMORY,
    EXIT_OK,
    LESS_MEMORY,
    Request,
    to_json,
)
from fedsparse.durable import write_durably

STDERR_TAIL_BYTES: Final = 4096
TRAINER: Final = (sys.executable, "-m", "edge_client.trainer")
# A BLAS of numpy's is never called: it need not set up threads. Arrays of 128 KiB and more go back
# to the system as soon as they are freed: the peak of a task is then what it holds at one time.
ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a trainer ended.

    Attributes:
        reason: empty where it did its work.
        seconds: of its process.
        no_memory: whether it was killed, or refused memory.
        too_late: whether it was ended at its limit.
    """

    mask_missing: bool = False
    bad_data: bool = False
    no_memory: bool = False
    too_late: bool = False
    reason: str = ""
    seconds: float = 0.0


class TrainerProcess:
    """One running trainer.

    Args:
        request: what it is to do.
        folder: where the request is written.
        limit_s: after so long it is of no use, and is ended.
        command: the trainer; the request's path is appended.

    Raises:
        OSError: it cannot be started: no memory, no room on the disk.
    """

    def __init__(
        self, request: Request, folder: Path, limit_s: float, command: Sequence[str] = TRAINER
    ) -> None:
        path = folder / "request.json"
        write_durably(path, to_json(request).encode())
        self._limit_s = limit_s
        self._began = time.monotonic()
        self._stderr: IO[bytes] = os.fdopen(
            os.memfd_create("stderr"), "w+b"
        )  # no disk is full there
        self._too_late = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [*command, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=os.environ | ENVIRONMENT,
            )
        except OSError:
            self._stderr.close()
            raise

    def poll(self) -> Outcome | None:
        """How it ended; None while it runs (one past its limit is killed here)."""
        code = self._process.poll()
        if code is None:
            if self._seconds > self._limit_s:
                self._too_late = True
                self._process.kill()
            return None
        last_line = self._last_line()
        self._stderr.close()
        if self._too_late:
            reason = f"not done after {self._limit_s:.0f} s, the round's deadline"
            return Outcome(too_late=True, reason=reason, seconds=self._seconds)
        return replace(_outcome(code, last_line), seconds=self._seconds)

    def stop(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        self._stderr.close()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _last_line(self) -> str:
        self._stderr.seek(0, 2)
        self._stderr.seek(max(0, self._stderr.tell() - STDERR_TAIL_BYTES))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _outcome(code: int, last_line: str) -> Outcome:
    if code == EXIT_OK:
        return Outcome()
    if code == EXIT_MASK_MISSING:
        return Outcome(mask_missing=True)
    if code == -signal.SIGKILL:
        killed = "the trainer was killed, probably for want of memory"
        return Outcome(no_memory=True, reason=f"{killed}: {LESS_MEMORY}")
    if code == EXIT_NO_MEMORY:
        return Outcome(no_memory=True, reason=last_line)
    if code == EXIT_BAD_DATA:
        return Outcome(bad_data=True, reason=last_line)
    if code < 0:
        return Outcome(reason=f"the trainer died of {signal.Signals(-code).name}")
    return Outcome(reason=last_line or f"the trainer ended with code {code}")
