"""Masks and counts as bytes (docs/wire.md, section 5).

Every decoder treats its input as hostile: what is malformed raises `RemoteProtocolError` before
memory is taken for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fedsparse.errors import RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.sparsity import rice
from fedsparse.types import BoolArray

BITS: Final = "bits"
RICE: Final = "rice"
HOLES: Final = "holes"
U32: Final = "u32"
# With more kept positions a rice code, of two bits or more for each, is not worth trying.
DENSEST_RICE: Final = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedMask:
    """A mask as bytes.

    Attributes:
        codec: `bits`, `rice` or `holes`.
        data: the bytes.
        base: whether they hold the positions in which the mask differs from the base mask.
    """

    codec: str
    data: bytes
    base: bool


def mask_digest(plan_digest: str, mask: BoolArray) -> str:
    """Name a mask `(num_prunable,)` of a plan: SHA-256(plan digest || packed bits), hexadecimal.

    The plan digest enters as its 32 bytes; position 0 is the lowest bit of the first byte.
    """
    return hashlib.sha256(bytes.fromhex(plan_digest) + pack(mask)).hexdigest()


def encode_mask(mask: BoolArray, base: BoolArray | None = None) -> EncodedMask:
    """Write a mask in the shortest way: packed, or the gaps between ones, zeros, or changes."""
    best = EncodedMask(codec=BITS, data=pack(mask), base=False)
    tries = [(RICE, mask, False), (HOLES, ~mask, False)]
    if base is not None:
        tries.append((RICE, mask ^ base, True))
    for codec, bits, is_change in tries:
        if np.count_nonzero(bits) > DENSEST_RICE * bits.size:
            continue
        data = rice.encode(bits)
        if len(data) < len(best.data):
            best = EncodedMask(codec=codec, data=data, base=is_change)
    return best


def decode_mask(
    codec: str, data: bytes | memoryview, size: int, base: BoolArray | None = None
) -> BoolArray:
    """Read a mask `(size,)`; with a base, `data` holds the positions in which the mask differs.

    Raises:
        RemoteProtocolError: the codec is unknown, or the bytes are no mask of that size.
    """
    if base is not None and base.size != size:
        raise RemoteProtocolError(f"a change of a mask of {base.size} for a mask of {size}")
    if codec == BITS:
        bits = unpack(data, size)
    elif codec in (RICE, HOLES):
        bits = rice.decode(data, size)
    else:
        raise RemoteProtocolError(
            f"mask codec '{codec[:32]}' is none of '{BITS}', '{RICE}', '{HOLES}'"
        )
    if codec == HOLES:
        bits = ~bits
    return bits if base is None else bits ^ base


def encode_counts(counts: Sequence[int]) -> bytes:
    """Write the kept weights of each prunable tensor as little-endian uint32."""
    return np.asarray(counts, "<u4").tobytes()


def decode_counts(data: bytes | memoryview, plan: Plan) -> tuple[int, ...]:
    """Read the kept weights of each prunable tensor of a plan.

    Raises:
        RemoteProtocolError: the length is wrong, or a tensor keeps none or more than it has.
    """
    tensors = plan.prunable
    if len(data) != 4 * len(tensors):
        raise RemoteProtocolError(f"counts: {len(data)} bytes for {len(tensors)} tensors")
    counts = tuple(np.frombuffer(data, "<u4").tolist())
    for tensor, count in zip(tensors, counts, strict=True):
        if not 0 < count <= tensor.size:
            raise RemoteProtocolError(f"counts: {tensor.name} of {tensor.size} keeps {count}")
    return counts


def pack(mask: BoolArray) -> bytes:
    """A mask as bits: position 0 is the lowest bit of the first byte."""
    return np.packbits(mask, bitorder="little").tobytes()


def unpack(data: bytes | memoryview, size: int) -> BoolArray:
    """The mask `(size,)` in packed bits.

    Raises:
        RemoteProtocolError: it is not as long, or bits are set beyond its end.
    """
    if len(data) != (size + 7) // 8:
        raise RemoteProtocolError(f"mask: {len(data)} bytes of bits for {size} positions")
    if size % 8 and data[-1] >> (size % 8):
        raise RemoteProtocolError(f"mask: bits are set beyond position {size - 1}")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=size, bitorder="little")
    return bits.view(np.bool_)
