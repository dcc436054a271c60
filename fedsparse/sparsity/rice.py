"""Rice-coded gaps: the positions of a sparse mask in close to their entropy.

The positions are written as gaps. Blocks of `BLOCK` gaps have a parameter `r` each, so that layers
of unlike density cost what they should. The low `r` bits of the gaps and their unary high parts are
two separate streams, so that both directions are whole-array numpy.

    count       u32 little-endian: the number of positions
    parameters  one byte for each block of 256 gaps: r, at most 31
    low bits    r bits of each gap, lowest first; padded with zeros to a byte
    high parts  gap >> r zeros, then a one, for each gap; padded with zeros to a byte
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from fedsparse.errors import RemoteProtocolError
from fedsparse.types import BoolArray, IntArray

BLOCK: Final = 256
CHUNK: Final = 16 * BLOCK  # gaps that are at work at once; the low bits of a block fill bytes
COUNT_BYTES: Final = 4
MAX_PARAMETER: Final = 31
Bytes = npt.NDArray[np.uint8]


def encode(mask: BoolArray) -> bytes:
    """Write the positions that a mask `(size,)` keeps; takes 8 bytes of memory for each."""
    positions = np.flatnonzero(mask)
    parameters, low, high = bytearray(), bytearray(), bytearray()
    before, rest = -1, np.zeros(0, np.bool_)
    for start in range(0, positions.size, CHUNK):
        part = positions[start : start + CHUNK]
        gaps = np.diff(part, prepend=before) - 1
        best = _best_parameters(gaps)
        width = np.repeat(best, BLOCK)[: gaps.size]
        parameters += best.astype(np.uint8).tobytes()
        low += np.packbits(_low_bits(gaps, width), bitorder="little").tobytes()
        unary = np.concatenate([rest, _high_bits(gaps >> width)])
        whole = unary.size // 8 * 8
        high += np.packbits(unary[:whole], bitorder="little").tobytes()
        before, rest = int(part[-1]), unary[whole:]
    high += np.packbits(rest, bitorder="little").tobytes()
    return positions.size.to_bytes(COUNT_BYTES, "little") + parameters + low + high


def decode(data: bytes | memoryview, size: int) -> BoolArray:
    """Read a mask `(size,)`.

    Raises:
        RemoteProtocolError: the bytes are truncated, too many, padded with ones, or name a position
            out of range. No more memory is taken than a mask of `size` justifies.
    """
    count, width, low, high = _split(np.frombuffer(data, np.uint8), size)
    ones = np.flatnonzero(np.unpackbits(high, bitorder="little"))
    if ones.size != count or high.size != (int(ones[-1]) // 8 + 1 if count else 0):
        raise RemoteProtocolError(f"rice mask: {ones.size} gaps where {count} were announced")
    mask = np.zeros(size, np.bool_)
    one, position, done = -1, -1, 0
    for start in range(0, count, CHUNK):
        part, wide = ones[start : start + CHUNK], width[start : start + CHUNK]
        gaps = (np.diff(part, prepend=one) - 1) << wide
        end = done + (int(wide.sum()) + 7) // 8
        _add_low_bits(gaps, np.unpackbits(low[done:end], bitorder="little"), wide)
        if int(gaps.max()) >= size:  # also keeps the sum below from overflowing
            raise RemoteProtocolError(f"rice mask: a gap of {gaps.max()} in a mask of {size}")
        positions = np.cumsum(gaps + 1) + position
        if int(positions[-1]) >= size:
            raise RemoteProtocolError(f"rice mask: position {positions[-1]} in a mask of {size}")
        mask[positions] = True
        one, position, done = int(part[-1]), int(positions[-1]), end
    return mask


def _high_bits(high: IntArray) -> BoolArray:
    """As many zeros as each number says, then a one."""
    ones = np.cumsum(high + 1)
    bits = np.zeros(int(ones[-1]), np.bool_)
    bits[ones - 1] = True
    return bits


def _best_parameters(gaps: IntArray) -> IntArray:
    """`(blocks,)`: the parameter with the shortest code for each block of gaps."""
    starts = np.arange(0, gaps.size, BLOCK)
    lengths = np.diff(starts, append=gaps.size)
    widest = min(int(gaps.max()).bit_length(), MAX_PARAMETER)
    bits = [np.add.reduceat(gaps >> r, starts) + lengths * r for r in range(widest + 1)]
    best: IntArray = np.argmin(bits, axis=0)
    return best


def _low_bits(gaps: IntArray, width: IntArray) -> BoolArray:
    """The low `width` bits of every gap, one after the other."""
    ends = np.cumsum(width)
    starts = ends - width
    bits = np.zeros(int(ends[-1]) if ends.size else 0, np.bool_)
    for bit in range(int(width.max(initial=0))):
        wide = np.flatnonzero(width > bit)
        bits[starts[wide] + bit] = (gaps[wide] >> bit) & 1
    return bits


def _add_low_bits(gaps: IntArray, bits: Bytes, width: IntArray) -> None:
    """Add the low `width` bits to every gap, in place."""
    starts = np.cumsum(width, dtype=np.int64) - width
    for bit in range(int(width.max(initial=0))):
        wide = np.flatnonzero(width > bit)
        gaps[wide] |= bits[starts[wide] + bit].astype(np.int64) << bit


def _split(raw: Bytes, size: int) -> tuple[int, IntArray, Bytes, Bytes]:
    """The count, each gap's width, and the two streams; checks every length before it allocates."""
    if not COUNT_BYTES <= raw.size <= max(COUNT_BYTES, (size + 7) // 8):
        raise RemoteProtocolError(f"rice mask: {raw.size} bytes for a mask of {size}")
    count = int.from_bytes(raw[:COUNT_BYTES].tobytes(), "little")
    body = COUNT_BYTES + (count + BLOCK - 1) // BLOCK
    if count > size or body > raw.size:
        raise RemoteProtocolError(f"rice mask: {count} positions in a mask of {size}")
    parameters = raw[COUNT_BYTES:body]
    if parameters.max(initial=0) > MAX_PARAMETER:
        raise RemoteProtocolError(f"rice mask: parameter {parameters.max()}")
    width = np.repeat(parameters, BLOCK)[:count]
    low_bits = int(width.sum(dtype=np.int64))
    high = body + (low_bits + 7) // 8
    if high > raw.size or (low_bits % 8 and raw[high - 1] >> (low_bits % 8)):
        raise RemoteProtocolError(f"rice mask: {raw.size} bytes, {high} announced")
    return count, width, raw[body:high], raw[high:]
