"""One block of memory for all buffers of a program: those that never live together overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_client.runtime.program import Buffer

ALIGNMENT: Final = 64  # bytes; a cache line, and the widest vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Where each buffer lies.

    Attributes:
        offsets: bytes from the start, in the order of the buffers that were laid out.
        size_bytes: of the whole block.
    """

    offsets: tuple[int, ...]
    size_bytes: int


def lay_out(buffers: Sequence[Buffer], batch: int) -> Arena:
    """Place the largest buffer first, each at the lowest offset that is free while it lives.

    Source: "greedy by size", Pisarchyk & Lee, Efficient Memory Management for Deep Neural Net
    Inference, 2020, section 4.3.
    """
    sizes = [_aligned(buffer.size_bytes(batch)) for buffer in buffers]
    offsets = [0] * len(buffers)
    placed: list[int] = []  # indices of buffers, by offset
    for current in sorted(range(len(buffers)), key=lambda i: (-sizes[i], buffers[i].first)):
        offset, buffer = 0, buffers[current]
        for other in placed:
            if buffers[other].first > buffer.last or buffers[other].last < buffer.first:
                continue
            if offset + sizes[current] <= offsets[other]:
                break
            offset = max(offset, offsets[other] + sizes[other])
        offsets[current] = offset
        placed.append(current)
        placed.sort(key=offsets.__getitem__)
    total = max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)
    return Arena(offsets=tuple(offsets), size_bytes=total)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT
