"""The one kind of PNG that we meet: 8-bit RGB, not interlaced; so no image library is needed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from fedsparse.errors import DataError

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
CHANNELS: Final = 3
NONE, SUB, UP, AVERAGE, PAETH = range(5)

Row = npt.NDArray[np.uint8]


def decode_png(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode to `(height, width, 3)`; checksums of chunks are not verified.

    Raises:
        DataError: not a PNG, damaged, or of another kind.

    Source: W3C, "Portable Network Graphics Specification", sections 5 and 9.
    """
    try:
        chunks = list(_chunks(data))
        width, height, *kind = struct.unpack(">IIBBBBB", chunks[0][1])
        if kind != [8, 2, 0, 0, 0]:
            raise DataError(f"PNG: only 8-bit RGB without interlacing is read, not {kind}")
        raw = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    except (struct.error, zlib.error, IndexError) as error:
        raise DataError(f"PNG: damaged: {error}") from error
    stride = width * CHANNELS
    if len(raw) != height * (1 + stride):
        raise DataError(f"PNG: {len(raw)} bytes of pixels for {width} x {height}")
    filtered = np.frombuffer(raw, dtype=np.uint8).reshape(height, 1 + stride)
    pixels = np.empty((height, stride), dtype=np.uint8)
    above = np.zeros(stride, dtype=np.uint8)
    for index in range(height):
        above = _unfilter(int(filtered[index, 0]), filtered[index, 1:], above)
        pixels[index] = above
    return pixels.reshape(height, width, CHANNELS)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise DataError("PNG: wrong signature")
    start = len(SIGNATURE)
    while start < len(data):
        size, name = struct.unpack_from(">I4s", data, start)
        yield name, data[start + 8 : start + 8 + size]
        start += 12 + size


def _unfilter(kind: int, row: Row, above: Row) -> Row:
    """One row of pixels from its differences; sums are modulo 256."""
    if kind == NONE:
        return row
    if kind == SUB:
        return np.cumsum(row.reshape(-1, CHANNELS), axis=0, dtype=np.uint8).reshape(-1)
    if kind == UP:
        return row + above
    if kind not in (AVERAGE, PAETH):
        raise DataError(f"PNG: unknown row filter {kind}")
    # Each pixel needs the one before it and is not a plain sum: no whole-row operation does it.
    values, upper = row.tolist(), above.tolist()
    for index, up in enumerate(upper):
        left = values[index - CHANNELS] if index >= CHANNELS else 0
        corner = upper[index - CHANNELS] if index >= CHANNELS else 0
        guess = (left + up) // 2 if kind == AVERAGE else _paeth(left, up, corner)
        values[index] = (values[index] + guess) & 255
    return np.array(values, dtype=np.uint8)


def _paeth(left: int, up: int, corner: int) -> int:
    """The neighbour nearest to `left + up - corner`; ties go to left, then up."""
    estimate = left + up - corner
    return min((left, up, corner), key=lambda value: abs(estimate - value))
