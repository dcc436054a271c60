"""The subset of CBOR that headers are written in: checked before it is parsed.

Maps with text keys, arrays, integers of at most 64 bits, floats, text, bytes, booleans and null,
all of definite length. Tags, and with them everything that a decoder would compute for a sender,
are refused; so is depth, and a count that the bytes at hand cannot hold.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2

from fedsparse.errors import LocalProtocolError, RemoteProtocolError

MAX_DEPTH: Final = 8
FLOATS: Final = {25: 2, 26: 4, 27: 8}  # additional information -> bytes that follow
SIMPLE: Final = (20, 21, 22)  # false, true, null
UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, SIMPLE_OR_FLOAT = 0, 1, 2, 3, 4, 5, 7


def dumps(value: dict[str, Any]) -> bytes:
    """Encode a header deterministically (RFC 8949, section 4.2: sorted keys, shortest forms)."""
    try:
        return cbor2.dumps(value, canonical=True)
    except cbor2.CBOREncodeError as error:
        raise LocalProtocolError(f"a header cannot be encoded: {error}") from error


def loads(data: bytes) -> dict[str, Any]:
    """Decode a header.

    Raises:
        RemoteProtocolError: it is not one map of the subset that fills `data` exactly.
    """
    if not data or data[0] >> 5 != MAP:
        raise RemoteProtocolError("a header must be a CBOR map")
    if (end := _skip(data, 0, MAX_DEPTH)) != len(data):
        raise RemoteProtocolError(f"{len(data) - end} bytes after the header's map")
    try:
        value = cbor2.loads(data)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise RemoteProtocolError(f"a header is not CBOR: {error}") from error
    if not isinstance(value, dict):
        raise RemoteProtocolError("a header must be a CBOR map")
    return value


def _skip(data: bytes, start: int, depth: int) -> int:
    """Where the item that starts at `start` ends; raises for anything outside the subset."""
    major, argument, position = _head(data, start)
    if major in (UNSIGNED, NEGATIVE, SIMPLE_OR_FLOAT):
        return position
    if argument > len(data) - position:
        raise RemoteProtocolError(f"a CBOR length of {argument} in {len(data)} bytes of header")
    if major in (BYTES, TEXT):
        return position + argument
    if depth == 0:
        raise RemoteProtocolError(f"a header is nested deeper than {MAX_DEPTH}")
    for _ in range(argument):
        if major == MAP:
            if position < len(data) and data[position] >> 5 != TEXT:
                raise RemoteProtocolError("a key of a header is not text")
            position = _skip(data, position, 0)
        position = _skip(data, position, depth - 1)
    return position


def _head(data: bytes, start: int) -> tuple[int, int, int]:
    """The major type of an item, its argument, and where its head ends."""
    if start >= len(data):
        raise RemoteProtocolError("a header ends too early")
    major, low = data[start] >> 5, data[start] & 31
    if major == SIMPLE_OR_FLOAT:
        if low not in FLOATS and low not in SIMPLE:
            raise RemoteProtocolError(f"a header holds the CBOR simple value {low}")
        size = FLOATS.get(low, 0)
    elif major not in (UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP):
        raise RemoteProtocolError("a header holds a CBOR tag")
    elif low > 27:
        raise RemoteProtocolError("a header holds a CBOR item of indefinite length")
    else:
        size = 1 << (low - 24) if low > 23 else 0
    end = start + 1 + size
    if end > len(data):
        raise RemoteProtocolError("a header ends too early")
    return major, int.from_bytes(data[start + 1 : end], "big") if size else low, end
