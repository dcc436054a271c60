"""A body that is being received, on the disk: what has come stays, whatever is killed.

One file: the body's bytes at their places, then for each chunk that has come a word with its
CRC-32. Nothing is synced on the way: after a restart a chunk counts as far as its CRC-32 fits.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Final

from fedsparse.body import File, digest_of
from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.frame import Absent

HERE: Final = 1 << 32  # the bit of a word that tells of a chunk that has come
WORD: Final = struct.Struct("<Q")
SPARE_BYTES: Final = 16 * 1024 * 1024  # of the disk: a body must not take the last of it


class PartialFile:
    """A body that is being received; the file is opened for each write only.

    Args:
        path: of the file; one that is there is gone on with.
        absent: what is to come.

    Raises:
        OSError: there is no room for it, or the disk does not work.
    """

    def __init__(self, path: Path, absent: Absent) -> None:
        self._path = path
        self._absent = absent
        self._table = absent.size
        self._words = WORD.size * absent.count
        self.missing = set(range(absent.count))
        if self._is_whole():
            self.missing.clear()
        elif self._is_there():
            self.missing -= self._kept()
        else:
            self._create()

    def write(self, index: int, payload: bytes | memoryview) -> bool:
        """Take chunk `index`; whether it was missing.

        Raises:
            RemoteProtocolError: it has another length than it should have.
            OSError: the disk is full, or does not work.
        """
        if index not in range(self._absent.count) or len(payload) != self._absent.length(index):
            raise RemoteProtocolError(f"chunk {index} of {len(payload)} bytes does not fit")
        if index not in self.missing:
            return False
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            _write_all(descriptor, payload, self._absent.offset(index))
            word = WORD.pack(HERE | zlib.crc32(payload))
            _write_all(descriptor, word, self._table + WORD.size * index)
        finally:
            os.close(descriptor)
        self.missing.discard(index)
        return True

    def finish(self, path: Path) -> File:
        """The whole body, moved to `path`; not yet durable.

        Raises:
            RemoteProtocolError: it has another digest than was said; it is gone then.
        """
        body = File(path=self._path, size=self._absent.size, digest=self._absent.digest)
        if digest_of(body) != body.digest:
            self.remove()
            raise RemoteProtocolError(f"body {body.digest[:12]} does not match its SHA-256")
        os.truncate(self._path, body.size)
        self._path.replace(path)
        return File(path=path, size=body.size, digest=body.digest)

    def remove(self) -> None:
        """Give it up."""
        self._path.unlink(missing_ok=True)

    def _is_whole(self) -> bool:
        """Whether it was finished before a restart, when nobody had taken it yet."""
        return File(path=self._path, size=self._absent.size, digest=self._absent.digest).verify()

    def _is_there(self) -> bool:
        return self._path.is_file() and self._path.stat().st_size == self._table + self._words

    def _create(self) -> None:
        total, disk = self._table + self._words, os.statvfs(self._path.parent)
        if (free := disk.f_bavail * disk.f_frsize) < total + SPARE_BYTES:
            raise OSError(f"{free >> 20} MiB are free on the disk, a transfer needs {total >> 20}")
        with self._path.open("wb") as file:
            file.truncate(total)

    def _kept(self) -> set[int]:
        """The chunks that are there, undamaged."""
        kept = set()
        with self._path.open("rb", buffering=0) as file:
            words = os.pread(file.fileno(), self._words, self._table)
            for index, (word,) in enumerate(WORD.iter_unpack(words)):
                if word & HERE:
                    size, offset = self._absent.length(index), self._absent.offset(index)
                    payload = os.pread(file.fileno(), size, offset)
                    if zlib.crc32(payload) == word & (HERE - 1):
                        kept.add(index)
        return kept


def _write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it: where a disk is nearly full, `pwrite` takes a part, and complains later."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
