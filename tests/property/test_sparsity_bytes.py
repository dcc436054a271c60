"""Masks as bytes: every one comes back; no input does harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.errors import RemoteProtocolError
from fedsparse.sparsity import rice
from fedsparse.sparsity.packing import (
    BITS,
    RICE,
    decode_mask,
    encode_mask,
)
from fedsparse.types import BoolArray

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def masks(draw: st.DrawFn) -> BoolArray:
    """A mask of stretches of unlike density, as layers make them."""
    rng = np.random.default_rng(draw(SEEDS))
    lengths = draw(st.lists(st.integers(1, 700), min_size=1, max_size=4))
    shares = [draw(st.sampled_from([0.0, 0.001, 0.03, 0.2, 0.5, 0.95, 1.0])) for _ in lengths]
    parts = [rng.random(length) < share for length, share in zip(lengths, shares, strict=True)]
    return np.concatenate(parts)


@settings(deadline=None)
@given(masks())
def test_a_mask_comes_back(mask: BoolArray) -> None:
    encoded = encode_mask(mask, None)
    assert not encoded.base
    assert len(encoded.data) <= (mask.size + 7) // 8
    assert np.array_equal(decode_mask(encoded.codec, encoded.data, mask.size), mask)


@settings(deadline=None)
@given(masks(), st.floats(0, 0.2), SEEDS)
def test_a_mask_comes_back_with_its_base(mask: BoolArray, share: float, seed: int) -> None:
    base = mask ^ (np.random.default_rng(seed).random(mask.size) < share)
    encoded = encode_mask(mask, base)
    assert len(encoded.data) <= len(encode_mask(mask, None).data)
    decoded = decode_mask(encoded.codec, encoded.data, mask.size, base if encoded.base else None)
    assert np.array_equal(decoded, mask)


@settings(deadline=None)
@given(masks())
def test_rice_gaps_come_back_even_where_they_are_not_the_shortest(mask: BoolArray) -> None:
    data = rice.encode(mask)
    if len(data) <= max(rice.COUNT_BYTES, (mask.size + 7) // 8):
        assert np.array_equal(rice.decode(data, mask.size), mask)
    else:
        with pytest.raises(RemoteProtocolError, match="bytes for a mask"):
            rice.decode(data, mask.size)


@settings(deadline=None)
@given(masks(), st.data())
def test_a_truncated_or_lengthened_mask_is_refused(mask: BoolArray, data: st.DataObject) -> None:
    encoded = encode_mask(mask, None)
    cut = data.draw(st.integers(0, len(encoded.data) - 1))
    tail = data.draw(st.binary(min_size=1, max_size=4))
    for broken in (encoded.data[:cut], encoded.data + tail):
        with pytest.raises(RemoteProtocolError):
            decode_mask(encoded.codec, broken, mask.size)


@settings(deadline=None)
@given(masks(), st.data())
def test_a_flipped_bit_yields_another_mask_or_a_refusal(
    mask: BoolArray, data: st.DataObject
) -> None:
    encoded = encode_mask(mask, None)
    bit = data.draw(st.integers(0, 8 * len(encoded.data) - 1))
    broken = bytearray(encoded.data)
    broken[bit // 8] ^= 1 << (bit % 8)
    try:
        decoded = decode_mask(encoded.codec, bytes(broken), mask.size)
    except RemoteProtocolError:
        return
    assert decoded.shape == mask.shape
    assert not np.array_equal(decoded, mask)


@settings(deadline=None)
@given(st.sampled_from([BITS, RICE, "zip", ""]), st.binary(max_size=64), st.integers(1, 600))
def test_noise_is_a_mask_of_the_right_size_or_refused(codec: str, data: bytes, size: int) -> None:
    try:
        mask = decode_mask(codec, data, size)
    except RemoteProtocolError:
        return
    assert codec in (BITS, RICE)
    assert mask.shape == (size,)
    assert mask.dtype == np.bool_


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.binary(max_size=40), st.integers(40, 5000))
def test_announced_counts_and_parameters_are_not_believed(
    count: int, rest: bytes, size: int
) -> None:
    try:
        mask = rice.decode(count.to_bytes(4, "little") + rest, size)
    except RemoteProtocolError:
        return
    assert mask.sum() == count
