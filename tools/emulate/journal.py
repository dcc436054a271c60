"""The diary of a run: what the aggregator wrote and what happened to devices, on one clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

EMULATION = "emulation"
AGGREGATOR = "aggregator"


class Journal:
    """Appends to `events.jsonl`; `time_s` is this host's, from the start of the run.

    The aggregator's clock starts with its process. Its distance from ours is the smallest at which
    an entry was seen, so entries are off by the time between two looks at most.

    Args:
        path: of the file.
        clock: this host's.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", buffering=1)
        self._clock = clock
        self._began_s = clock()
        self._offset_s: float | None = None
        self._last_s = 0.0

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def now_s(self) -> float:
        """Host seconds since the start of the run."""
        return self._clock() - self._began_s

    def note(self, event: str, **fields: object) -> dict[str, Any]:
        """Something that happened here; returns the entry."""
        return self._write({"event": event, "time_s": self.now_s, "by": EMULATION, **fields})

    def copy(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An entry of the aggregator's diary, on our clock; returns it."""
        theirs_s = float(event.get("time_s", 0.0))
        distance_s = self.now_s - theirs_s
        restarted = theirs_s < self._last_s
        if self._offset_s is None or restarted or distance_s < self._offset_s:
            self._offset_s = distance_s
        self._last_s = theirs_s
        return self._write({**event, "time_s": theirs_s + self._offset_s, "by": AGGREGATOR})

    def _write(self, entry: dict[str, Any]) -> dict[str, Any]:
        entry["time_s"] = round(entry["time_s"], 3)
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
        return entry
