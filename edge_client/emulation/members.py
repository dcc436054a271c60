"""The processes of a place: found by a mark in their environment, which children inherit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from edge_client.emulation.names import is_left_over

MARK: Final = "FEDSPARSE_PLACE"
PROC: Final = Path("/proc")
PATIENCE_S: Final = 5.0
PAUSE_S: Final = 0.002
PROCESS_CLOCK: Final = 2  # of clock_gettime(2): all threads of a process, in nanoseconds


def marked(place: str) -> set[int]:
    """The processes that were started with a place's mark, and all that they started since."""
    return {pid for pid, found in _marks() if found == place}


def left_over_marks() -> set[str]:
    """The places with processes whose makers have died."""
    return {found for _, found in _marks() if is_left_over(found)}


def with_children(pids: Iterable[int]) -> set[int]:
    """Those of `pids` that live, and what they started; what has lost its parent is not seen."""
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid in found:
            continue
        children = _children(pid)
        if children is not None:
            found.add(pid)
            waiting.extend(children)
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal; processes that have ended are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def end_all(members: Callable[[], set[int]], patience_s: float = PATIENCE_S) -> set[int]:
    """Kill processes until there are none; those that would not die are returned.

    Args:
        members: who they are, at the moment: they may be starting others.
        patience_s: how long to try.
    """
    deadline = time.monotonic() + patience_s
    while (left := _living(members())) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)  # of stopped ones, too: SIGKILL needs no SIGCONT
        time.sleep(PAUSE_S)
    return left


def cpu_s(pid: int) -> float | None:
    """Processor time of a process, all its threads; None where it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | PROCESS_CLOCK)
    except OSError:
        return None


def resident_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process now, and at most so far; zeros where it has ended."""
    now = highest = 0
    for line in _read(PROC / str(pid) / "status").decode(errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            now = int(line.split()[1]) * 1024
        elif line.startswith("VmHWM:"):
            highest = int(line.split()[1]) * 1024
    return now, highest


def _living(pids: set[int]) -> set[int]:
    """Without the dead whom their parents have not asked after: nothing is left of those."""
    return {pid for pid in pids if b") Z" not in _read(PROC / str(pid) / "stat")}


def _marks() -> Iterable[tuple[int, str]]:
    prefix = f"{MARK}=".encode()
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            for entry in _read(folder / "environ").split(b"\0"):
                if entry.startswith(prefix):
                    yield int(folder.name), entry[len(prefix) :].decode(errors="replace")


def _children(pid: int) -> list[int] | None:
    """What a process started; None where it has ended."""
    try:
        threads = list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return None
    return [int(child) for thread in threads for child in _read(thread / "children").split()]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
