from __future__ import annotations

import numpy as np
import pytest

from fedsparse.errors import RemoteProtocolError
from fedsparse.sparsity import rice

SIZE = 200
POSITIONS = [0, 1, 5, 40, 100, 199]
# Gaps 0 0 3 34 59 98 with r = 4. Low bits 0 0 | 3 2 | 11 2; high parts 0 0 0 2 3 6 in unary.
GOLDEN = "06000000" + "04" + "00232b" + "270201"


def mask_of(*positions: int, size: int = SIZE) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[list(positions)] = True
    return mask


def test_golden_bytes() -> None:
    assert rice.encode(mask_of(*POSITIONS)).hex() == GOLDEN
    assert np.flatnonzero(rice.decode(bytes.fromhex(GOLDEN), SIZE)).tolist() == POSITIONS


def test_an_empty_mask_is_its_count() -> None:
    assert rice.encode(mask_of()) == bytes(4)
    assert not rice.decode(bytes(4), SIZE).any()
    assert not rice.decode(bytes(4), 1).any()


@pytest.mark.parametrize("density", [0.01, 0.03, 0.05, 0.1, 0.2])
def test_the_size_is_within_four_percent_of_the_entropy(density: float) -> None:
    size = 300_000
    mask = np.zeros(size, np.bool_)
    kept = np.random.default_rng(0).choice(size, round(density * size), replace=False)
    mask[kept] = True
    entropy = -density * np.log2(density) - (1 - density) * np.log2(1 - density)
    assert len(rice.encode(mask)) <= 1.04 * entropy * size / 8


def test_layers_of_unlike_density_each_get_their_parameter() -> None:
    rng = np.random.default_rng(0)
    dense, sparse = rng.random(20_000) < 0.6, rng.random(400_000) < 0.002
    together = len(rice.encode(np.concatenate([dense, sparse])))
    assert together <= 1.05 * (len(rice.encode(dense)) + len(rice.encode(sparse)))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 255, 256, 257, 100_000])
def test_the_last_position_alone_comes_back(size: int) -> None:
    if size >= 80:  # else packed bits are shorter, and a longer code is refused
        mask = mask_of(size - 1, size=size)
        assert np.array_equal(rice.decode(rice.encode(mask), size), mask)
    else:
        with pytest.raises(RemoteProtocolError, match="bytes for a mask"):
            rice.decode(rice.encode(mask_of(size - 1, size=size)), size)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "0 bytes"),
        ("060000", "3 bytes"),
        (GOLDEN[:-2], "5 gaps where 6"),
        (GOLDEN + "00", "6 gaps where 6"),
        (GOLDEN + "01", "7 gaps where 6"),
        ("c9000000" + GOLDEN[8:], "201 positions"),
        ("ffffffff" + GOLDEN[8:], "4294967295 positions"),
        ("00000000" + "00", "0 gaps where 0"),
        ("05000000" + GOLDEN[8:], "bytes|gaps"),
        (GOLDEN[:8] + "20" + GOLDEN[10:], "parameter 32"),
        (GOLDEN[:8] + "1f" + GOLDEN[10:], "bytes, 29 announced"),
        (GOLDEN[:8] + "05" + GOLDEN[10:], "bytes|gaps"),
        ("01000000" + "03" + "0f" + "01", "announced"),  # a padding bit of the low bits is set
        ("01000000" + "1f" + "ffffff7f" + "01", "a gap of 2147483647"),
        ("01000000" + "08" + "c8" + "01", "a gap of 200"),
        ("02000000" + "07" + "ff3f" + "03", "position 255"),  # two gaps of 127
        ("02000000" + "07" + "e431" + "03", "position 200"),  # gaps of 100 and 99
    ],
)
def test_malformed_bytes_are_refused(data: str, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        rice.decode(bytes.fromhex(data), SIZE)


def test_more_bytes_than_packed_bits_are_refused_unread() -> None:
    with pytest.raises(RemoteProtocolError, match="10000000 bytes for a mask of 200"):
        rice.decode(bytes(10_000_000), SIZE)
