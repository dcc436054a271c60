"""What the machine can do at best: multiply-adds and memory traffic of one thread.

Imports no numpy: a device's command line measures limits before any worker runs.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import asdict, dataclass
from typing import Final

from edge_client.runtime.native.library import LANES, Library
from edge_client.runtime.native.structures import Call, Limit

FLOAT_BYTES: Final = 4
ALIGNMENT: Final = 64
SUMS: Final = 12  # chains of limits.h
# Sizes of what is read. The first two lie within a cache level of every board that there is a
# profile of, the last is larger than their caches; the others may be either.
LEVELS: Final = {
    "l1": 16 * 1024,
    "l2": 192 * 1024,
    "2_mib": 2 * 2**20,
    "16_mib": 16 * 2**20,
    "dram": 64 * 2**20,
}
BURST_S: Final = 0.02  # one timed call
BURSTS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One thread's limits in one variant of the kernels.

    Attributes:
        variant: which vectors.
        fma_per_s: multiply-adds per second, in registers.
        sizes: name of a level -> bytes of the block in which it was measured.
        load_bytes_per_s, copy_bytes_per_s: level -> bytes per second that are read, or read and
            written (a byte copied counts twice).
    """

    variant: str
    fma_per_s: float
    sizes: dict[str, int]
    load_bytes_per_s: dict[str, float]
    copy_bytes_per_s: dict[str, float]

    def copy_at(self, size_bytes: int) -> float:
        """Bytes per second of a copy in the largest measured block that is no larger."""
        ordered = sorted(self.sizes, key=self.sizes.__getitem__)
        fitting = [name for name in ordered if self.sizes[name] <= size_bytes]
        return self.copy_bytes_per_s[fitting[-1] if fitting else ordered[0]]

    def to_document(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def measure_limits(
    library: Library, *, variant: str | None = None, levels: dict[str, int] = LEVELS
) -> Limits:
    """Time the limit kernels; about a second.

    Args:
        library: the kernels.
        variant: of the kernels; by default the widest that runs here.
        levels: name -> bytes that are read (and, copying, as many that are written).
    """
    chosen = variant or library.variants[0]
    bench = _Bench(library, chosen, max(levels.values()))
    return Limits(
        variant=chosen,
        fma_per_s=bench.fma_per_s(),
        sizes=dict(levels),
        load_bytes_per_s={name: bench.traffic("load_limit", size) for name, size in levels.items()},
        copy_bytes_per_s={
            # both halves together have the size: the copy stays in its level
            name: 2 * bench.traffic("copy_limit", size // 2)
            for name, size in levels.items()
        },
    )


class _Bench:
    """Memory and kernels of one measurement."""

    def __init__(self, library: Library, variant: str, size_bytes: int) -> None:
        self._library = library
        self._lanes = LANES[variant]
        self._block = ctypes.create_string_buffer(size_bytes + 2 * ALIGNMENT)
        self._start = ctypes.addressof(self._block) + -ctypes.addressof(self._block) % ALIGNMENT
        ctypes.memset(self._start, 0, size_bytes)  # its pages are taken before time counts

    def fma_per_s(self) -> float:
        per_round = SUMS * self._lanes
        return per_round * self._rounds_per_s("fma_limit", Limit(**self._addresses(0)))

    def traffic(self, kernel: str, size_bytes: int) -> float:
        """Bytes read per second."""
        floats = size_bytes // FLOAT_BYTES // (8 * self._lanes) * 8 * self._lanes
        arguments = Limit(count=floats, **self._addresses(floats))
        return floats * FLOAT_BYTES * self._rounds_per_s(kernel, arguments)

    def _addresses(self, floats: int) -> dict[str, int]:
        copying = self._start + floats * FLOAT_BYTES
        end = ctypes.addressof(self._block) + len(self._block)
        fits = copying + max(floats, self._lanes) * FLOAT_BYTES <= end
        return {"input": self._start, "output": copying if fits else self._start}

    def _rounds_per_s(self, kernel: str, arguments: Limit) -> float:
        """The fastest burst: whatever else runs on the machine only slows it down."""
        function = self._library.kernel(kernel, self._lanes)
        call = Call(function=function, arguments=ctypes.addressof(arguments), units=1, chunk=1)
        arguments.rounds = rounds = 1
        while (seconds := self._timed(call)) < BURST_S / 4:
            rounds *= 4
            arguments.rounds = rounds
        arguments.rounds = rounds = max(1, round(rounds * BURST_S / seconds))
        return rounds / min(self._timed(call) for _ in range(BURSTS))

    def _timed(self, call: Call) -> float:
        start = time.perf_counter()
        self._library.run(ctypes.addressof(call), 1, 1, None)
        return time.perf_counter() - start
