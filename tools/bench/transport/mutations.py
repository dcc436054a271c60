"""Broken frames, made of good ones: bytes that changed, and fields that do not belong."""

from __future__ import annotations

import copy
import math
import random
from typing import Any, Final

from fedsparse.errors import RemoteProtocolError
from fedsparse.wire import cbor
from fedsparse.wire.frame import PROLOGUE

NUMBERS: Final = (0, 1, -1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**63, -(2**63))
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0.0, -0.0, math.nan, math.inf, 1e308, "", "x" * 500, "../../etc", "\0",
    b"", b"\0" * 32, b"\0" * 33, [], {}, [[]], {"a": {"b": {}}},
)  # fmt: skip


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """One to three bytes changed, cut out, doubled or put in."""
    bad = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        if not bad:
            break
        at, way = draw.randrange(len(bad)), draw.randrange(5)
        if way == 0:
            bad[at] = draw.randrange(256)
        elif way == 1:
            bad[at] ^= 1 << draw.randrange(8)
        elif way == 2:
            del bad[at : at + draw.randint(1, 9)]
        elif way == 3:
            bad[at:at] = draw.randbytes(draw.randint(1, 9))
        else:
            bad[at:at] = bad[at : at + draw.randint(1, 9)]
    return bytes(bad)


def mutated_header(frame: bytes, draw: random.Random) -> bytes:
    """A frame that is whole, with a field that was changed, left out or put in; the body stays."""
    try:
        magic, version, kind, size = PROLOGUE.unpack_from(frame)
        header = cbor.loads(frame[PROLOGUE.size : PROLOGUE.size + size])
    except (RemoteProtocolError, ValueError):
        return mutated_bytes(frame, draw)
    for _ in range(draw.randint(1, 2)):
        _change(header, draw)
    encoded = cbor.dumps(header)
    body = frame[PROLOGUE.size + size :]
    return PROLOGUE.pack(magic, version, kind, len(encoded)) + encoded + body


def mutated(frame: bytes, draw: random.Random) -> bytes:
    """Broken in one of these ways."""
    way = draw.random()
    if way < 0.4:
        return mutated_bytes(frame, draw)
    if way < 0.6:  # with the length that has its header parsed
        bad = mutated_bytes(frame, draw)
        size = max(0, len(bad) - PROLOGUE.size - draw.choice((0, 0, len(frame) // 2)))
        return bad[:4] + size.to_bytes(4, "little") + bad[8:]
    return mutated_header(frame, draw)


def _change(header: dict[str, Any], draw: random.Random) -> None:
    if not header:
        header["x"] = copy.deepcopy(draw.choice(ODD))
        return
    key = draw.choice(sorted(header))
    value, way = header[key], draw.randrange(5)
    if way == 0:
        del header[key]
    elif way == 1:
        header[key] = copy.deepcopy(draw.choice(ODD))
    elif way == 2 and isinstance(value, bytes) and value:
        header[key] = bytes([value[0] ^ 1]) + value[1:]
    elif way == 3 and isinstance(value, dict):
        _change(value, draw)
    elif way == 3 and isinstance(value, list) and value and isinstance(value[0], dict):
        _change(draw.choice(value), draw)
    elif isinstance(value, int) and not isinstance(value, bool):
        header[key] = draw.choice((*NUMBERS[:-2], value + 1, value - 1))
    else:
        header[key] = copy.deepcopy(header[draw.choice(sorted(header))])
