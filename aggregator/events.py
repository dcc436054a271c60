"""The job's diary: one JSON object a line, for people, the demo and reports to follow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TextIO

from fedsparse.transport.limiter import Telling

EVENTS: Final = "events.jsonl"  # in the job's output folder
AT_THEIR_WORD: Final = frozenset(
    ("device_ready", "device_failed", "device_online", "device_offline", "device_decided")
)
AT_ONCE: Final = 500  # of a device, and then one a second: more than any job makes
DEVICES: Final = 10_000


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


class BoundedDiary:
    """A diary that no device fills: of what is noted at a device's word, so much and no more.

    Args:
        diary: that is kept.
        clock: seconds, monotonic.
    """

    def __init__(self, diary: Diary, clock: Callable[[], float]) -> None:
        self._diary = diary
        self._telling = Telling(DEVICES, clock, at_once=AT_ONCE, per_s=1.0)

    def write(self, event: str, **fields: object) -> None:
        """Note one event; where some of the device were not noted before it, how many."""
        silent: int | None = 0
        if event in AT_THEIR_WORD:
            silent = self._telling.of(str(fields.get("device")))
        if silent is not None:
            more = {"untold": silent} if silent else {}
            self._diary.write(event, **fields, **more)
