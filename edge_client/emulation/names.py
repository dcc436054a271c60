"""Names that say which process made something, so that what a dead one left is known as such."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
PATTERN: Final = re.compile(r"fedsparse-(\d+)-(\d+)-(\d+)-(\d+)")
START_TIME: Final = 19  # of /proc/PID/stat, counted behind the command's closing bracket
_numbers = itertools.count(1)


def new_name() -> str:
    """A name that no other process makes, with this one's id and start: `fedsparse-NS-PID-START-N`.

    The first number is the namespace of process ids: elsewhere the same id is another process.
    """
    pid = os.getpid()
    return f"fedsparse-{_namespace()}-{pid}-{start_time(pid)}-{next(_numbers)}"


def is_left_over(name: str) -> bool:
    """Whether a process made this that does not live any more; never of names of others."""
    found = PATTERN.fullmatch(name)
    if found is None:
        return False
    namespace, pid, started = (int(found[group]) for group in (1, 2, 3))
    return namespace == _namespace() and start_time(pid) != started


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None where there is no such."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a command may contain anything
    return None if fields[0] in ("Z", "X") else int(fields[START_TIME])


def _namespace() -> int:
    return (PROC / "self/ns/pid").stat().st_ino
