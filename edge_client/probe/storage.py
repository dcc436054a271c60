"""What room a folder has, and how fast it takes what is written to stay."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

KIB: Final = 1024
FIRST_BYTES: Final = 256 * KIB  # what even a slow card takes soon
LARGEST_BYTES: Final = 8 * 1024 * KIB
MOST_BYTES: Final = 32 * 1024 * KIB
FREE_SHARE: Final = 0.05  # of the free room, at most
MEMORY_SHARE: Final = 0.1  # of available memory, at most: the folder may lie in it (tmpfs)
LIMIT_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSpeed:
    """What was measured; None is unknown.

    Attributes:
        write_bytes_per_s: until the bytes are on the disk, not in the page cache.
        written_bytes: how many were.
        unknown: what could not be measured, and why.
    """

    write_bytes_per_s: float | None
    written_bytes: int
    unknown: tuple[str, ...] = ()


def free_bytes(folder: Path) -> int:
    """Room that an ordinary user may take.

    Raises:
        OSError: the folder does not exist, or cannot be reached.
    """
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def measure_writing(
    folder: Path,
    memory_bytes: int | None = None,
    *,
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.perf_counter,
) -> WriteSpeed:
    """Write to a file without a name, which is gone however this ends.

    Blocks double in size; each is forced to the disk before the next. No block is begun that would
    end after `limit_s`, at the rate so far; the first one always is.

    Args:
        folder: where.
        memory_bytes: that is available; None is unknown.
        limit_s: about how long.
        clock: seconds.
    """
    written, seconds = 0, 0.0
    try:
        most = _most_bytes(folder, memory_bytes)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            block = FIRST_BYTES
            while _fits(written, seconds, block, most, limit_s):
                start = clock()
                _write(file, block)
                seconds += clock() - start
                written += block
                block = min(2 * block, LARGEST_BYTES)
    except OSError as error:
        why = f"writing: {folder}: {error.strerror or error}"
        return WriteSpeed(write_bytes_per_s=None, written_bytes=written, unknown=(why,))
    return WriteSpeed(write_bytes_per_s=written / seconds, written_bytes=written)


def _most_bytes(folder: Path, memory_bytes: int | None) -> int:
    """What may be written; raises `OSError` where that is too little to measure anything."""
    room = free_bytes(folder)
    if FREE_SHARE * room < FIRST_BYTES:
        raise OSError(f"only {room / 1e6:.1f} MB are free")
    if memory_bytes is None:
        return min(MOST_BYTES, int(FREE_SHARE * room))
    if MEMORY_SHARE * memory_bytes < FIRST_BYTES:
        raise OSError(f"only {memory_bytes / 1e6:.1f} MB of memory are available")
    return min(MOST_BYTES, int(FREE_SHARE * room), int(MEMORY_SHARE * memory_bytes))


def _fits(written: int, seconds: float, block: int, most: int, limit_s: float) -> bool:
    if written == 0:
        return True
    return written + block <= most and seconds * (written + block) / written <= limit_s


def _write(file: BinaryIO, size: int) -> None:
    """Bytes that no file system compresses."""
    view = memoryview(os.urandom(min(size, 1024 * KIB)))
    left = size
    while left > 0:
        left -= file.write(view[: min(left, len(view))])
    os.fdatasync(file.fileno())
