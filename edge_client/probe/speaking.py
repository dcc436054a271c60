"""A process that measures, and who listens to it: lines of JSON, and a last word where it fails."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from edge_client.lean import OPENSSL_HASHES, leave_out
from fedsparse.errors import FedSparseError
from fedsparse.stopping import die_with_parent

EXIT_REFUSED: Final = 2
GOODBYE_S: Final = 0.2  # to end before who listens ends it
OOM_SCORE: Final = "800"
STDERR_TAIL_BYTES: Final = 4096
READ_BYTES: Final = 1 << 16
# As the agent starts trainers: no BLAS sets up threads, freed arrays go back to the system.
ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}


def say(**facts: object) -> None:
    """One line to who listens."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def speak(measure: Callable[[float], None], arguments: list[str]) -> NoReturn:
    """The main function of a process that measures; ends it.

    Args:
        measure: says what it finds, within about as many seconds as it is given.
        arguments: when nobody listens any more, in seconds of the monotonic clock, which is one for
            all processes: starting Python and importing numpy count.
    """
    leave_out(OPENSSL_HASHES)
    die_with_parent()
    _be_first_to_go()
    code = EXIT_REFUSED
    try:
        measure(float(arguments[0]) - GOODBYE_S - time.monotonic())
        code = 0
    except MemoryError:
        sys.stderr.write("out of memory\n")
    except (FedSparseError, OSError) as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:  # who listens has it, too
        code = EXIT_REFUSED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking an interpreter apart takes time, too


def listen(module: str, limit_s: float, heard: Callable[[dict[str, Any]], None]) -> str:
    """Run `python -m module DEADLINE`; returns why it did not come to its end, empty if it did.

    Args:
        module: its main function is `speak`.
        limit_s: after so long the process is killed; what was heard until then counts.
        heard: is given every line.
    """
    deadline = time.monotonic() + limit_s
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [sys.executable, "-m", module, f"{deadline:.3f}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | ENVIRONMENT | _path(),
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        with process:
            try:
                in_time = _hear(process, deadline, heard)
            finally:
                process.kill()
                code = process.wait()
        return _ending(code, _last_line(stderr)) if in_time else "ran out of time"


def _hear(
    process: subprocess.Popen[bytes], deadline: float, heard: Callable[[dict[str, Any]], None]
) -> bool:
    """Pass on lines until there are no more; False where the deadline came first."""
    if process.stdout is None:
        raise ValueError("a process is heard through its standard output")
    waiting = b""
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left_s)[0]:
            return False
        piece = os.read(process.stdout.fileno(), READ_BYTES)
        if not piece:
            return _ended(process, deadline)
        *lines, waiting = (waiting + piece).split(b"\n")
        for line in lines:
            heard(json.loads(line))
    return False


def _ended(process: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def _ending(code: int, last_line: str) -> str:
    if code == 0:
        return ""
    if code == -signal.SIGKILL:
        return "was killed, probably for want of memory"
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return last_line or f"ended with code {code}"


def _last_line(stderr: IO[bytes]) -> str:
    stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, stderr.tell() - STDERR_TAIL_BYTES))
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _path() -> dict[str, str]:
    """The packages that this code is from, before others of the same name."""
    root = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _be_first_to_go() -> None:
    """Where memory runs out, the kernel is to end the measurement, and nothing else."""
    try:
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    except OSError:
        return
