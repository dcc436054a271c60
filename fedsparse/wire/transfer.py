"""Large messages in chunks, sans-I/O (docs/wire.md, section 6).

A transfer is one whole frame; its id is the frame's SHA-256. All chunks but the last are of one
size, and every chunk tells the whole geometry, so that they may come in any order, twice, or on
another connection.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.wire.frame import CHUNK, decode_frame, encode_frame

MAX_CHUNKS: Final = 65_536
READ_BYTES: Final = 1 << 18
INTEGERS: Final = {"index": "i", "count": "n", "offset": "o", "total": "b", "crc": "c"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a transfer.

    Attributes:
        transfer: SHA-256 of the whole frame, in hexadecimal.
        index, count: which chunk of how many.
        offset, total: where its bytes belong in how many.
        crc: CRC-32 of the payload.
        size: of every chunk but the last, in bytes.
        payload: its bytes.
    """

    transfer: str
    index: int
    count: int
    offset: int
    total: int
    crc: int
    size: int
    payload: memoryview


def decode_chunk(data: bytes | memoryview) -> Chunk:
    """Read a chunk.

    Raises:
        RemoteProtocolError: the frame is broken, is no chunk, or contradicts itself.
    """
    frame = decode_frame(data)
    if frame.kind != CHUNK:
        raise RemoteProtocolError(f"a frame of kind {frame.kind} where a chunk belongs")
    transfer = frame.header.get("id")
    if type(transfer) is not bytes or len(transfer) != 32:
        raise RemoteProtocolError("a chunk without the SHA-256 of its transfer")
    numbers = {name: _unsigned(name, frame.header) for name in INTEGERS}
    if zlib.crc32(frame.body) != numbers["crc"]:
        raise RemoteProtocolError(f"chunk {numbers['index']} does not match its CRC-32")
    size = _size(length=len(frame.body), **numbers)
    return Chunk(transfer=transfer.hex(), size=size, payload=frame.body, **numbers)


def _unsigned(name: str, header: Mapping[str, Any]) -> int:
    value = header.get(INTEGERS[name])
    if type(value) is not int or not 0 <= value < 2**40:
        raise RemoteProtocolError(f"a chunk with {name}={value!r}")
    return value


def _size(*, index: int, count: int, offset: int, total: int, crc: int, length: int) -> int:
    """The size of every chunk but the last; raises where the numbers do not fit each other."""
    good = 0 < count <= MAX_CHUNKS and index < count and 0 < length <= total
    if good and index < count - 1:
        size = length
    elif good and index > 0:
        size = offset // index
    else:
        size = total
    if not good or offset != index * size or not (count - 1) * size < total <= count * size:
        raise RemoteProtocolError(
            f"chunk {index} of {count}: {length} bytes at {offset} of {total} do not fit"
        )
    if length != min(size, total - offset):
        raise RemoteProtocolError(f"chunk {index} of {count} has {length} bytes")
    return size


class Outgoing:
    """A transfer to be sent: yields chunks as the window allows, until all are acknowledged.

    Args:
        pieces: what the frame is made of, one after the other; they are not copied.
        chunk_bytes: payload of a chunk.
        window: chunks in flight at most.

    Attributes:
        total: bytes of the frame.
        count: of the chunks.
        chunk_bytes: payload of each but the last.
    """

    def __init__(
        self, pieces: Sequence[bytes | memoryview], *, chunk_bytes: int, window: int = 4
    ) -> None:
        self._pieces = tuple(memoryview(piece) for piece in pieces)
        self.total = sum(len(piece) for piece in self._pieces)
        self.chunk_bytes = chunk_bytes
        self._window = window
        self.count = -(-self.total // chunk_bytes)
        if not 0 < self.count <= MAX_CHUNKS:
            raise LocalProtocolError(f"{self.total} bytes are no {MAX_CHUNKS} chunks")
        digest = hashlib.sha256()
        for piece in self._pieces:
            digest.update(piece)
        self._digest = digest.digest()
        self._waiting = list(range(self.count - 1, -1, -1))
        self._in_flight: set[int] = set()

    @property
    def transfer(self) -> str:
        """The transfer's id."""
        return self._digest.hex()

    @property
    def done(self) -> bool:
        """Whether the broker has acknowledged all chunks; the receiver may still miss some."""
        return not self._waiting and not self._in_flight

    @property
    def may_send(self) -> bool:
        """Whether a chunk waits, and the window has room for it."""
        return bool(self._waiting) and len(self._in_flight) < self._window

    def next_chunk(self) -> tuple[int, bytes]:
        """A chunk that may be sent now, as (index, frame)."""
        index = self._waiting.pop()
        self._in_flight.add(index)
        return index, self._encode(index)

    def next_chunks(self) -> Iterator[tuple[int, bytes]]:
        """All chunks that may be sent now."""
        while self.may_send:
            yield self.next_chunk()

    def put_back(self, index: int) -> None:
        """Chunk `index` was not sent after all: it comes next."""
        self._in_flight.discard(index)
        self._waiting.append(index)

    def acknowledged(self, index: int) -> None:
        """The broker has taken chunk `index`."""
        self._in_flight.discard(index)

    def resend(self, missing: bytes) -> None:
        """The receiver lacks the chunks of this bitmap (empty: all of them).

        Raises:
            RemoteProtocolError: the bitmap is longer than the transfer.
        """
        if len(missing) > (self.count + 7) // 8:
            raise RemoteProtocolError(f"a bitmap of {len(missing)} bytes for {self.count} chunks")
        wanted = [i for i in range(self.count) if not missing or _has_bit(missing, i)]
        again = set(wanted) - self._in_flight | set(self._waiting)
        self._waiting = sorted(again, reverse=True)

    def _encode(self, index: int) -> bytes:
        offset = index * self.chunk_bytes
        payload = self._slice(offset, min(self.chunk_bytes, self.total - offset))
        header = {
            "id": self._digest, "i": index, "n": self.count, "o": offset, "b": self.total,
            "c": zlib.crc32(payload),
        }  # fmt: skip
        return encode_frame(CHUNK, header, payload)

    def _slice(self, offset: int, size: int) -> bytes:
        found = []
        for piece in self._pieces:
            found.append(piece[offset : offset + size] if offset < len(piece) else b"")
            size -= len(found[-1])
            offset = max(0, offset - len(piece))
        return b"".join(found)


class Incoming:
    """A transfer that is being received into a file.

    Args:
        first: any chunk of it; give it to `add` too.
        sink: a file open for reading and writing, owned by the caller until `close`.
    """

    def __init__(self, first: Chunk, sink: BinaryIO) -> None:
        self.transfer = first.transfer
        self.total = first.total
        self._geometry = _geometry(first)
        self._count = first.count
        self._sink = sink
        self._crcs: dict[int, int] = {}

    @property
    def complete(self) -> bool:
        """Whether no chunk is missing."""
        return len(self._crcs) == self._count

    def missing(self) -> bytes:
        """Bitmap of the missing chunks: the first one is the lowest bit of the first byte."""
        bitmap = bytearray((self._count + 7) // 8)
        for index in range(self._count):
            if index not in self._crcs:
                bitmap[index // 8] |= 1 << index % 8
        return bytes(bitmap)

    def add(self, chunk: Chunk) -> bool:
        """Take a chunk; True where it was new.

        Raises:
            RemoteProtocolError: it contradicts the chunks that came before it.
        """
        if _geometry(chunk) != self._geometry:
            raise RemoteProtocolError(f"chunk {chunk.index} is of another transfer or chunk size")
        if chunk.index in self._crcs:
            if self._crcs[chunk.index] != chunk.crc:
                raise RemoteProtocolError(f"chunk {chunk.index} came twice with other bytes")
            return False
        self._sink.seek(chunk.offset)
        self._sink.write(chunk.payload)
        self._crcs[chunk.index] = chunk.crc
        return True

    def verify(self) -> None:
        """Check a complete transfer against its id.

        Raises:
            RemoteProtocolError: the bytes are not those that the sender named.
        """
        digest = hashlib.sha256()
        self._sink.seek(0)
        while block := self._sink.read(READ_BYTES):
            digest.update(block)
        if not self.complete or digest.hexdigest() != self.transfer:
            raise RemoteProtocolError(f"transfer {self.transfer[:12]} does not match its SHA-256")

    def frame(self) -> bytes:
        """The whole frame, once `verify` has passed."""
        self._sink.seek(0)
        return self._sink.read(self.total)

    def close(self) -> None:
        """Give the file back."""
        self._sink.close()


def _geometry(chunk: Chunk) -> tuple[str, int, int, int]:
    return chunk.transfer, chunk.count, chunk.total, chunk.size


def _has_bit(bitmap: bytes, index: int) -> bool:
    return index // 8 < len(bitmap) and bool(bitmap[index // 8] >> index % 8 & 1)
