"""Large bodies in chunks (docs/wire.md, section 6).

A message whose body is large travels as a *head*: its frame without the body, which says how long
the body is, its SHA-256, and into how large chunks its sender cuts it. The SHA-256 is the id of the
transfer, so a head that is sent again, with other fields too, names the same bytes. The receiver
asks for the chunks that it wants; all that is known of a transfer is known there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire.frame import CHUNK, decode_frame, encode_frame
from fedsparse.wire.messages import Need

CRC: Final = "c"  # the header key of a chunk's CRC-32


def encode_chunk(payload: bytes) -> bytes:
    """A chunk as a frame; its topic names the transfer and the index."""
    return encode_frame(CHUNK, {CRC: zlib.crc32(payload)}, payload)


def decode_chunk(data: bytes | memoryview) -> memoryview:
    """The payload of a chunk (not copied).

    Raises:
        RemoteProtocolError: the frame is broken, is no chunk, or does not match its CRC-32.
    """
    frame = decode_frame(data)
    if frame.kind != CHUNK:
        raise RemoteProtocolError(f"a frame of kind {frame.kind} where a chunk belongs")
    crc = frame.header.get(CRC)
    if type(crc) is not int or zlib.crc32(frame.body) != crc:
        raise RemoteProtocolError(f"a chunk of {len(frame.body)} bytes does not match its CRC-32")
    return frame.body


def ask_for(transfer: str, indices: Iterable[int]) -> Need:
    """The message that asks for these chunks, at least one, of a transfer."""
    wanted = sorted(indices)
    first = wanted[0]
    bitmap = bytearray((wanted[-1] - first) // 8 + 1)
    for index in wanted:
        bitmap[(index - first) // 8] |= 1 << (index - first) % 8
    return Need(what="chunks", transfer=transfer, first=first, missing=bytes(bitmap))


def asked_for(need: Need, count: int) -> Iterator[int]:
    """The chunks that a `Need` asks for, of a transfer of `count`; lowest first.

    Raises:
        RemoteProtocolError: there is no such chunk.
    """
    end = need.first + 8 * len(need.missing) - 7
    if need.missing and (not need.missing[-1] or end > count):
        raise RemoteProtocolError(f"chunks up to {end} asked for of {count}")
    for position, byte in enumerate(need.missing):
        for bit in range(8):
            if byte >> bit & 1:
                index = need.first + 8 * position + bit
                if index >= count:
                    raise RemoteProtocolError(f"chunk {index} asked for of {count}")
                yield index
