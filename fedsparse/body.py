"""The bytes that a message carries beside its header: in memory where they are few, else in a file.

Nothing that sends or receives one needs to hold it: it is read in pieces.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

BLOCK_BYTES: Final = 256 * 1024


class Body(Protocol):
    """Bytes of a known length and digest."""

    @property
    def size(self) -> int:
        """How many."""
        ...

    @property
    def digest(self) -> str:
        """Their SHA-256, in hexadecimal."""
        ...

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on; fewer at the end.

        Raises:
            OSError: the file that has them cannot be read.
        """
        ...


class Bytes:
    """A body in memory.

    Args:
        data: its bytes; not copied, and not to be changed.
    """

    def __init__(self, data: bytes | memoryview = b"") -> None:
        self._data = memoryview(data)
        self._digest = ""

    @property
    def size(self) -> int:
        """How many bytes."""
        return len(self._data)

    @property
    def digest(self) -> str:
        """Their SHA-256, in hexadecimal; found once."""
        if not self._digest:
            self._digest = hashlib.sha256(self._data).hexdigest()
        return self._digest

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on; fewer at the end."""
        end = self.size if size is None else offset + size
        return bytes(self._data[offset:end])


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A body on the disk.

    Attributes:
        path: the file, which holds just it.
        size: of the file, in bytes.
        digest: SHA-256 of the file, in hexadecimal; `verify` says whether it still is.
    """

    path: Path
    size: int
    digest: str

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on; fewer at the end."""
        with self.path.open("rb", buffering=0) as file:
            wanted = max(0, self.size - offset)
            return os.pread(file.fileno(), wanted if size is None else min(size, wanted), offset)

    def verify(self) -> bool:
        """Whether the file has the size and the digest."""
        try:
            return self.path.stat().st_size == self.size and digest_of(self) == self.digest
        except OSError:
            return False


NO_BODY: Final = Bytes()


def blocks_of(body: Body) -> Iterator[bytes]:
    """All bytes of a body, a block at a time."""
    for offset in range(0, body.size, BLOCK_BYTES):
        yield body.read(offset, BLOCK_BYTES)


def digest_of(body: Body) -> str:
    """The SHA-256 that the bytes of a body have now, in hexadecimal."""
    digest = hashlib.sha256()
    for block in blocks_of(body):
        digest.update(block)
    return digest.hexdigest()
