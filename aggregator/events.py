"""The job's diary: one JSON object a line, for people, the demo and reports to follow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TextIO

EVENTS: Final = "events.jsonl"  # in the job's output folder


class Diary(Protocol):
    """Is told what happens in a job."""

    def write(self, event: str, **fields: object) -> None:
        """Note one event."""
        ...


class EventLog:
    """Appends events to `events.jsonl`, each with its time since the job's start, in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)
        self._clock = clock
        self._began = clock()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, event: str, **fields: object) -> None:
        """Append one event; a value that JSON cannot hold is a bug and raises."""
        entry = {"event": event, "time_s": round(self._clock() - self._began, 3), **fields}
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
