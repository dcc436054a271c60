"""Reading `events.jsonl` while the aggregator writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedsparse.errors import DataError

Event = dict[str, Any]


class EventTail:
    """Yields each complete line of a growing file once; an unfinished last line waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._line = 0

    def read(self) -> Iterator[Event]:
        """The events written since the last call; none while the file does not exist.

        Raises:
            DataError: a complete line is not a JSON object with the key "event".
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            self._line += 1
            yield self._parse(line)

    def _parse(self, line: bytes) -> Event:
        try:
            event = json.loads(line)
        except ValueError as error:
            raise DataError(f"{self._path}, line {self._line}: not JSON: {error}") from error
        if not isinstance(event, dict) or "event" not in event:
            raise DataError(f'{self._path}, line {self._line}: no object with the key "event"')
        return event
