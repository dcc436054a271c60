"""The job's diary: one JSON object a line, for people, the demo and reports to follow."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

log = logging.getLogger("aggregator")

EVENTS: Final = "events.jsonl"  # in the job's output folder
TAIL_BYTES: Final = 64 * 1024  # no line is longer


class Diary(Protocol):
    """Is told what happens in a job."""

    def write(self, event: str, **fields: object) -> None:
        """Note one event."""
        ...


class EventLog:
    """Appends events to `events.jsonl`, each with its time since the job's start, in seconds.

    A diary is no truth: what a full disk does not take is left out, and counted.

    Args:
        path: of the file; a line that a crash has torn at its end is cut off.
        clock: seconds that never go back.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._end = _cut_torn_line(self._file)
        self._clock = clock
        self._began = clock()
        self._left_out = 0

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def write(self, event: str, **fields: object) -> None:
        """Append one event; a value that JSON cannot hold is a bug and raises."""
        entry = {"event": event, "time_s": round(self._clock() - self._began, 3), **fields}
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            self._left_out += 1
            if self._left_out == 1:
                log.error("diary=not_written reason=%r", str(error))
            return
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            self.write("events_left_out", number=left_out)

    def _append(self, line: bytes) -> None:
        """The whole line, or nothing of it."""
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(line)


def _cut_torn_line(file: int) -> int:
    """Make the file end with a whole line; returns its length."""
    size = os.fstat(file).st_size
    start = max(0, size - TAIL_BYTES)
    tail = os.pread(file, size - start, start)
    end = start + tail.rfind(b"\n") + 1
    if end < size:
        os.ftruncate(file, end)
    return end
