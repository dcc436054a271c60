"""`python -m edge_client.probe.bandwidth DEADLINE`: how fast memory is copied and set.

A process of its own, so that a limit on memory ends it and not who asked. No numpy.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_client.probe.memory import read_memory
from edge_client.probe.speaking import say, speak
from fedsparse.errors import DataError

MIB: Final = 2**20
LARGEST_BYTES: Final = 32 * MIB  # larger than the caches of every board that there is a profile of
SMALLEST_BYTES: Final = 4 * MIB
MEMORY_SHARE: Final = 0.2  # of what is available, for both blocks together
WINDOW_S: Final = 0.4  # four periods of a processor quota: of each, what the quota allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """What one thread was measured to do with libc's own `memcpy` and `memset`.

    Attributes:
        copy_bytes_per_s: a byte that is read and written counts once.
        set_bytes_per_s: as written.
        block_bytes: what each call was given.
    """

    copy_bytes_per_s: float
    set_bytes_per_s: float
    block_bytes: int


def measure_bandwidth(
    available_bytes: int,
    window_s: float = WINDOW_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Bandwidth:
    """Copy and set blocks, over and over.

    Args:
        available_bytes: memory that may be used.
        window_s: how long each.
        clock: seconds.

    Raises:
        DataError: so little memory is available that caches would be measured.
    """
    size = min(LARGEST_BYTES, int(available_bytes * MEMORY_SHARE) // 2)
    if size < SMALLEST_BYTES:
        raise DataError(f"{available_bytes / 1e6:.0f} MB are too little to measure memory with")
    source, target = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size)
    ctypes.memset(source, 1, size)  # pages are taken before time counts
    ctypes.memset(target, 1, size)

    def repeated(call: Callable[[], object]) -> float:
        start, calls = clock(), 0
        while (seconds := clock() - start) < window_s:
            call()
            calls += 1
        return calls * size / seconds

    return Bandwidth(
        copy_bytes_per_s=repeated(lambda: ctypes.memmove(target, source, size)),
        set_bytes_per_s=repeated(lambda: ctypes.memset(target, 2, size)),
        block_bytes=size,
    )


def _run(limit_s: float) -> None:
    window_s = min(WINDOW_S, limit_s / 4)
    found = measure_bandwidth(read_memory().available_bytes, window_s)
    say(
        copy_bytes_per_s=found.copy_bytes_per_s,
        set_bytes_per_s=found.set_bytes_per_s,
        block_bytes=found.block_bytes,
    )


if __name__ == "__main__":
    speak(_run, sys.argv[1:])
