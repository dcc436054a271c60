"""A pytest plugin: executions laid out so that a sanitizer sees what they do wrong.

--guard-arenas    for the address sanitizer: an arena is one block to it, in which an overflow
                  from one buffer into the next is legal. Here every buffer has a place of its
                  own, and may not be left.
--share-calls     for the thread sanitizer: every call is shared by two threads, however small.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pytest

from edge_client.runtime import execution
from edge_client.runtime.arena import ALIGNMENT, Arena
from edge_client.runtime.execution import Execution
from edge_client.runtime.native.structures import Call
from edge_client.runtime.program import Buffer, Program

Bytes = npt.NDArray[np.uint8]
VECTOR = 64  # bytes of the widest, which kernels may read past the end of a run
GAP = 1024  # bytes behind that; numpy does not reuse blocks of such a size, which stay poisoned
FILLINGS = [np.full(VECTOR // 4, value, np.float32).view(np.uint8) for value in (-2.0, np.nan)]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("strained execution")
    group.addoption("--guard-arenas", action="store_true")
    group.addoption("--share-calls", action="store_true")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.guard_arenas:
        guard_arenas()
    if config.option.share_calls:
        share_calls()


def guard_arenas() -> None:
    """From now on, no call of a kernel may leave its buffers."""
    poison = ctypes.CDLL(None)["__asan_poison_memory_region"]
    poison.argtypes, poison.restype = (ctypes.c_void_p, ctypes.c_size_t), None
    start, run = Execution.__init__, Execution._run
    fillings: WeakKeyDictionary[Execution, Bytes] = WeakKeyDictionary()
    turns = itertools.cycle(FILLINGS)

    def guarded(
        self: Execution, program: Program, parameters: object, batch_size: int, *rest: object,
        **more: object,
    ) -> None:  # fmt: skip
        start(self, program, parameters, batch_size, *rest, **more)
        fillings[self] = next(turns)
        for buffer in program.buffers:
            end = self._offsets[id(buffer)] + buffer.size_bytes(batch_size)
            self._arena[end : end + VECTOR] = fillings[self]
            poison(self._arena.ctypes.data + end + VECTOR, GAP)

    def checked(self: Execution, calls: ctypes.Array[Call], batch: int) -> None:
        run(self, calls, batch)
        for buffer in self._program.buffers:
            end = self._offsets[id(buffer)] + buffer.size_bytes(self._batch_size)
            behind = self._arena[end : end + VECTOR]
            assert (behind == fillings[self]).all(), "written behind a buffer"

    execution.lay_out = apart
    Execution.__init__, Execution._run = guarded, checked


def apart(buffers: Sequence[Buffer], batch: int) -> Arena:
    """A layout without overlap, and with a gap behind each buffer."""
    offsets, total = [], 0
    for buffer in buffers:
        offsets.append(total)
        end = total + buffer.size_bytes(batch) + VECTOR + GAP
        total = -(-end // ALIGNMENT) * ALIGNMENT
    return Arena(offsets=tuple(offsets), size_bytes=total)


def share_calls() -> None:
    """From now on, two threads take their turns at the units of every call."""
    start = Execution.__init__

    def shared(self: Execution, *arguments: object, threads: int = 1, **more: object) -> None:
        start(self, *arguments, threads=max(threads, 2), **more)

    execution.SHARED_WORK = 0
    Execution.__init__ = shared
