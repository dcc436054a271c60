"""What processes of clients say, as lines of JSON on their pipes."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from edge_client.bench.race import WorkerError

PATIENCE_S: Final = 600.0
Word = dict[str, Any]


class Listener:
    """Hears processes, and talks to all of them.

    Args:
        processes: with pipes at stdin and stdout.
    """

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self._heard: queue.Queue[tuple[int, Word | None]] = queue.Queue()
        for index in range(len(processes)):
            threading.Thread(target=self._hear, args=(index,), daemon=True).start()

    def tell(self, word: Word) -> float:
        """Say it to all; returns when (monotonic seconds) that began."""
        began_s = time.monotonic()
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write(json.dumps(word).encode() + b"\n")
                process.stdin.flush()
        return began_s

    def all_say(
        self, key: str, value: object, *, or_again: tuple[Word, float] | None = None
    ) -> list[Word]:
        """Wait until every process has said `{key: value}` (`True`: with any value).

        Args:
            key, value: what is waited for.
            or_again: what they are told every so many seconds meanwhile.

        Raises:
            WorkerError: one of them ended, or did not say it in `PATIENCE_S`.
        """
        found: dict[int, Word] = {}
        end_s = time.monotonic() + PATIENCE_S
        pause_s = or_again[1] if or_again else PATIENCE_S
        while len(found) < len(self._processes):
            try:
                index, word = self._heard.get(timeout=min(pause_s, end_s - time.monotonic()))
            except (queue.Empty, ValueError):
                if or_again is None or time.monotonic() >= end_s:
                    raise WorkerError(f"clients did not say '{key}' in time") from None
                self.tell(or_again[0])
                continue
            if word is None:
                raise WorkerError(f"process {index} of the clients has ended: see its log")
            if key in word and (value is True or word[key] == value):
                found[index] = word
        return list(found.values())

    def _hear(self, index: int) -> None:
        stdout = self._processes[index].stdout
        for line in stdout or ():
            self._heard.put((index, json.loads(line)))
        self._heard.put((index, None))
