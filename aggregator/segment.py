"""The file of a round's accepted updates: records in the order of arrival, never changed.

    record   "FSUP", length u32, SHA-256 of what follows but the body (32 bytes),
             origin round u32, body's size u64, body's SHA-256 (32 bytes), place u8,
             length of the name u8, name, header (CBOR), body where place is 0
    mark     "FSCM", length u32, SHA-256 of what follows, offset of the mark u64

All integers are little-endian. A mark follows the records of a batch, and is written with them:
what precedes one was acknowledged. What follows the last one may have been torn by a crash.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RECORD: Final = b"FSUP"
MARK: Final = b"FSCM"
PROLOGUE: Final = struct.Struct("<4sI32s")
FIXED: Final = struct.Struct("<IQ32sBB")
OFFSET: Final = struct.Struct("<Q")
MARK_BYTES: Final = PROLOGUE.size + OFFSET.size  # shorter than any record
INLINE, APART = 0, 1  # where a body is: behind its header, or in a file of its own
BLOCK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An update in a segment, but for its body.

    Attributes:
        device: who sent it.
        origin_round: for which it was trained.
        header: its message's, as CBOR.
        body_bytes, body_digest: size of its body, and SHA-256 in hexadecimal.
        apart: whether the body is in a file of its own.
    """

    device: str
    origin_round: int
    header: bytes
    body_bytes: int
    body_digest: str
    apart: bool

    @property
    def key(self) -> tuple[str, int]:
        """What it is an update of: the last record of a key is the one that counts."""
        return self.device, self.origin_round

    def encode(self, body: bytes) -> bytes:
        """The bytes of the record; `body` is empty where it is in a file."""
        name = self.device.encode()
        place = APART if self.apart else INLINE
        digest = bytes.fromhex(self.body_digest)
        fixed = FIXED.pack(self.origin_round, self.body_bytes, digest, place, len(name))
        rest = b"".join((fixed, name, self.header))
        length = len(rest) + len(body)
        check = hashlib.sha256(rest).digest()
        return b"".join((PROLOGUE.pack(RECORD, length, check), rest, body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A whole record in the file: where it is, and where its body is."""

    record: Record
    offset: int
    end: int
    body_offset: int

    def moved_to(self, offset: int) -> Found:
        """The same record at another place."""
        shift = offset - self.offset
        return Found(
            record=self.record,
            offset=offset,
            end=self.end + shift,
            body_offset=self.body_offset + shift,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Bytes that are no record, in the midst of records: the disk has damaged something.

    Attributes:
        device: of whom the damaged record was, as far as can be read; else empty.
    """

    offset: int
    end: int
    device: str


class BodyAt:
    """A body within a file.

    Args:
        path, offset: where it begins.
        size, digest: as they were when it was stored.
    """

    def __init__(self, path: Path, offset: int, size: int, digest: str) -> None:
        self._path = path
        self._offset = offset
        self.size = size
        self.digest = digest

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on; fewer at the end.

        Raises:
            OSError: the file cannot be read.
        """
        wanted = max(0, self.size - offset)
        with self._path.open("rb", buffering=0) as file:
            length = wanted if size is None else min(size, wanted)
            return os.pread(file.fileno(), length, self._offset + offset)


def encode_mark(offset: int) -> bytes:
    """The mark that ends a batch; `offset` is its own."""
    rest = OFFSET.pack(offset)
    return PROLOGUE.pack(MARK, len(rest), hashlib.sha256(rest).digest()) + rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is in a segment.

    Attributes:
        items: records and damage, in their order.
        marked: offset behind the last mark: what precedes it was acknowledged.
        whole: offset behind the last record or mark; what follows was torn by a crash.
    """

    items: list[Found | Gap]
    marked: int
    whole: int


def scan(path: Path) -> Content:
    """Read a segment from its beginning.

    Raises:
        OSError: the file cannot be read.
    """
    items: list[Found | Gap] = []
    with path.open("rb") as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        offset = marked = 0
        while offset < size:
            item = _read(descriptor, offset, size)
            if isinstance(item, Found):
                items.append(item)
                offset = item.end
            elif item is not None:
                offset = marked = item
            elif (resumed := _next_good(descriptor, offset + 1, size)) is not None:
                if resumed - offset != MARK_BYTES:  # a damaged mark costs nothing
                    device = _claimed_device(descriptor, offset)
                    items.append(Gap(offset=offset, end=resumed, device=device))
                offset = resumed
            else:
                break
    return Content(items=items, marked=marked, whole=offset)


def _read(descriptor: int, offset: int, size: int) -> Found | int | None:
    """The record at `offset`, or the end of the mark there; None where neither is whole."""
    prologue = os.pread(descriptor, PROLOGUE.size, offset)
    if len(prologue) < PROLOGUE.size:
        return None
    magic, length, check = PROLOGUE.unpack(prologue)
    begin = offset + PROLOGUE.size
    if magic not in (RECORD, MARK) or begin + length > size:
        return None
    if magic == MARK:
        rest = os.pread(descriptor, length, begin) if length == OFFSET.size else b""
        good = rest == OFFSET.pack(offset) and hashlib.sha256(rest).digest() == check
        return begin + length if good else None
    return _read_record(descriptor, offset, length, check)


def _read_record(descriptor: int, offset: int, length: int, check: bytes) -> Found | None:
    begin = offset + PROLOGUE.size
    fixed = os.pread(descriptor, FIXED.size, begin)
    if len(fixed) < FIXED.size:
        return None
    origin_round, body_bytes, digest, place, name_bytes = FIXED.unpack(fixed)
    rest_bytes = length - (body_bytes if place == INLINE else 0)
    if rest_bytes < FIXED.size + name_bytes:
        return None
    rest = os.pread(descriptor, rest_bytes, begin)
    if hashlib.sha256(rest).digest() != check:
        return None
    name = rest[FIXED.size : FIXED.size + name_bytes]
    record = Record(
        device=name.decode(),
        origin_round=origin_round,
        header=rest[FIXED.size + name_bytes :],
        body_bytes=body_bytes,
        body_digest=digest.hex(),
        apart=place == APART,
    )
    end = begin + length
    return Found(record=record, offset=offset, end=end, body_offset=begin + rest_bytes)


def _claimed_device(descriptor: int, offset: int) -> str:
    """What a damaged record says of its sender; empty where that makes no sense."""
    begin = offset + PROLOGUE.size
    fixed = os.pread(descriptor, FIXED.size, begin)
    if len(fixed) < FIXED.size:
        return ""
    name = os.pread(descriptor, FIXED.unpack(fixed)[-1], begin + FIXED.size)
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _next_good(descriptor: int, begin: int, size: int) -> int | None:
    """The next offset from `begin` on at which something whole is; None where there is none."""
    for offset in _candidates(descriptor, begin, size):
        if _read(descriptor, offset, size) is not None:
            return offset
    return None


def _candidates(descriptor: int, begin: int, size: int) -> Iterator[int]:
    """Offsets at which a record or a mark may begin."""
    overlap = len(RECORD) - 1
    for start in range(begin, size, BLOCK_BYTES):
        block = os.pread(descriptor, BLOCK_BYTES + overlap, start)
        hits = {at for magic in (RECORD, MARK) for at in _hits(block, magic)}
        yield from (start + at for at in sorted(hits))


def _hits(block: bytes, magic: bytes) -> Iterator[int]:
    at = block.find(magic)
    while at >= 0:
        yield at
        at = block.find(magic, at + 1)
