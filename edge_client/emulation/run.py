"""One command in a place, from its start to its end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_client.emulation.errors import EmulationError
from edge_client.emulation.members import end_all, with_children
from edge_client.emulation.place import NOT_JOINED, Place
from edge_client.emulation.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command went.

    Attributes:
        exit_code: of the process; minus the signal's number, where one ended it.
        stdout, stderr: what it wrote.
        seconds: from its start to its end, in the board's time.
        host_seconds: the same on this host's clock.
        cpu_s: processor time on this host.
        peak_memory_bytes: the most that was used meanwhile; where the kernel cannot begin to look
            anew, since the place was opened. None = unknown.
        memory_kills: processes that the kernel killed meanwhile at the memory limit; None = the
            mechanism does not tell.
        report: how the place was limited.
    """

    exit_code: int
    stdout: str
    stderr: str
    seconds: float
    host_seconds: float
    cpu_s: float | None
    peak_memory_bytes: int | None
    memory_kills: int | None
    report: Report

    @property
    def killed_for_memory(self) -> bool | None:
        """Whether the kernel killed a process of it at the limit; None where nobody knows."""
        return None if self.memory_kills is None else self.memory_kills > 0


def run(
    place: Place,
    command: Sequence[str],
    *,
    timeout_s: float | None = None,
    **options: Any,  # noqa: ANN401
) -> Outcome:
    """Run a command in a place and wait for it.

    Args:
        place: open.
        command: program and arguments.
        timeout_s: in the board's time; None = as long as it takes.
        options: of `Place.start`; `input` is text for its standard input.

    Raises:
        EmulationError: it took longer, and was killed; or it could not be started.
    """
    given = options.pop("input", None)
    options.setdefault("stdin", subprocess.DEVNULL if given is None else subprocess.PIPE)
    place.forget_peak()
    before, began_s = place.usage(), time.monotonic()
    process = place.start(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    try:
        patience_s = None if timeout_s is None else place.scale.host_s(timeout_s)
        stdout, stderr = process.communicate(given, timeout=patience_s)
    except subprocess.TimeoutExpired:
        end_all(lambda: with_children([process.pid]))
        process.wait()
        host_s = time.monotonic() - began_s
        raise EmulationError(
            f"'{command[0]}' did not end in {timeout_s:g} s of the board's time ({host_s:.2g} s "
            "here), and was killed"
        ) from None
    host_s = time.monotonic() - began_s
    if process.returncode == NOT_JOINED and "has gone" in stderr:
        raise EmulationError(stderr.strip())
    after = place.usage()
    kills = _more(before.memory_kills, after.memory_kills)
    return Outcome(
        exit_code=process.returncode,
        stdout=stdout,
        stderr=stderr,
        seconds=place.scale.board_s(host_s),
        host_seconds=host_s,
        cpu_s=_more(before.cpu_s, after.cpu_s),
        peak_memory_bytes=after.peak_memory_bytes,
        memory_kills=None if kills is None else int(kills),
        report=place.report(),
    )


def _more(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
