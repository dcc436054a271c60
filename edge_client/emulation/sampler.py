"""Memory and processor time of a place's processes, read now and then where no group counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from edge_client.emulation.members import cpu_s, resident_bytes

EVERY_S: Final = 0.02


class Sampler:
    """Reads until it is closed; what rises and falls between two readings is not seen.

    Args:
        members: the processes, at the moment.
    """

    def __init__(self, members: Callable[[], set[int]]) -> None:
        self.peak_bytes = 0
        self._members = members
        self._cpu_s: dict[int, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fedsparse sampler", daemon=True)
        self._thread.start()

    @property
    def cpu_s(self) -> float:
        """Processor time of all processes that were seen."""
        return sum(self._cpu_s.values())

    def start_over(self) -> None:
        """Forget the peak."""
        self.peak_bytes = 0

    def read(self) -> None:
        """Read now."""
        pids = self._members()
        readings = [resident_bytes(pid) for pid in pids]
        together = sum(now for now, _ in readings)
        self.peak_bytes = max(self.peak_bytes, together, *(peak for _, peak in readings), 0)
        self._cpu_s |= {pid: used for pid in pids if (used := cpu_s(pid)) is not None}

    def close(self) -> None:
        """Read no more."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(EVERY_S):
            self.read()
