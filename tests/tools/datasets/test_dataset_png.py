from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedsparse.errors import DataError
from tools.datasets.png import decode_png


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def encode(
    pixels: npt.NDArray[np.uint8],
    filters: list[int],
    kind: tuple[int, ...] = (8, 2, 0, 0, 0),
) -> bytes:
    """A PNG written byte by byte from the specification, one row filter a row."""
    height, width, _ = pixels.shape
    plain = pixels.reshape(height, -1).astype(int).tolist()
    rows = b""
    for index, row in enumerate(plain):
        above = plain[index - 1] if index else [0] * len(row)
        rows += bytes([filters[index], *filtered(filters[index], row, above)])
    packed = zlib.compress(rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *kind))
        + chunk(b"IDAT", packed[: len(packed) // 2])
        + chunk(b"tEXt", b"a comment")
        + chunk(b"IDAT", packed[len(packed) // 2 :])
        + chunk(b"IEND", b"")
    )


def filtered(kind: int, row: list[int], above: list[int]) -> list[int]:
    result = []
    for index, value in enumerate(row):
        a = row[index - 3] if index >= 3 else 0
        b, c = above[index], above[index - 3] if index >= 3 else 0
        pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        paeth = a if pa <= pb and pa <= pc else b if pb <= pc else c
        result.append((value - (0, a, b, (a + b) // 2, paeth)[min(kind, 4)]) % 256)
    return result


@given(data=st.data(), height=st.integers(1, 6), width=st.integers(1, 7))
def test_every_row_filter_is_undone(data: st.DataObject, height: int, width: int) -> None:
    pixels = data.draw(arrays(np.uint8, (height, width, 3)))
    filters = data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))
    np.testing.assert_array_equal(decode_png(encode(pixels, filters)), pixels)


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"GIF89a", "wrong signature"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (encode(PIXELS, [0, 0])[:40], "damaged"),
        (encode(PIXELS, [0, 0], (16, 2, 0, 0, 0)), "only 8-bit RGB"),
        (encode(PIXELS, [0, 0], (8, 2, 0, 0, 1)), "only 8-bit RGB"),
        (encode(PIXELS, [0, 9]), "unknown row filter 9"),
        (encode(PIXELS, [0, 0]).replace(struct.pack(">II", 3, 2), struct.pack(">II", 3, 9)), "9"),
    ],
)
def test_another_png_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        decode_png(data)
