"""The kernels with a clock: every call of a program is timed on its own."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from edge_client.runtime.native.library import Address, Library
from edge_client.runtime.native.structures import Call


class TimedLibrary(Library):
    """The kernels, run one call at a time; `times` are the nanoseconds of each, by its arguments.

    Args:
        variant: as `Library`.
        clock: nanoseconds.
    """

    def __init__(
        self, *, variant: str | None = None, clock: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        super().__init__(variant=variant)
        self.times: dict[Address, list[int]] = {}
        self._clock = clock
        self._run_all = self.run
        self.run = self._run_each

    def _run_each(self, calls: Address, count: int, batch: int, team: Address | None) -> None:
        for position in range(count):
            address = calls + position * ctypes.sizeof(Call)
            arguments = Call.from_address(address).arguments
            start = self._clock()
            self._run_all(address, 1, batch, team)
            self.times.setdefault(arguments, []).append(self._clock() - start)
