"""Values as bytes: each comes back as near as its codec says; no input does harm."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedsparse.errors import RemoteProtocolError
from fedsparse.sparsity.values import SMALLEST_SCALE, carry_over, decode_values, encode_values
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.codecs import F16, F32, I8, VALUE_BYTES

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.lists(st.integers(0, 30), max_size=4)
DENSE = np.array([1e-40, -3.5, 3e38], np.float32)


@st.composite
def layers(draw: st.DrawFn, largest: float) -> tuple[Float32Array, list[int]]:
    """Values of tensors of unlike sizes and magnitudes."""
    counts = draw(COUNTS)
    limit = float(np.float32(largest))
    values = draw(arrays(np.float32, sum(counts), elements=st.floats(-limit, limit, width=32)))
    return values, counts


def through(codec: str, values: Float32Array, counts: list[int], seed: int | None) -> Float32Array:
    draw = None if seed is None else random.Random(seed).randbytes
    data = encode_values(Weights(prunable=values, dense=DENSE), codec, counts, draw)
    got = decode_values(codec, memoryview(data), counts, DENSE.size)
    assert got.dense.tobytes() == DENSE.tobytes()
    assert got.prunable.dtype == np.float32
    return got.prunable


@settings(deadline=None)
@given(layers(3e38))
def test_float32_comes_back_to_the_bit(layers: tuple[Float32Array, list[int]]) -> None:
    values, counts = layers
    assert through(F32, values, counts, None).tobytes() == values.tobytes()


@settings(deadline=None)
@given(layers(65504.0))
def test_float16_comes_back_to_eleven_bits(layers: tuple[Float32Array, list[int]]) -> None:
    values, counts = layers
    error = np.abs(through(F16, values, counts, None) - values)
    assert (error <= np.maximum(2.0**-11 * np.abs(values), 2.0**-25)).all()


@settings(deadline=None)
@given(layers(1e35), st.none() | SEEDS)
def test_a_byte_is_less_than_a_step_off_and_half_a_step_where_nothing_is_drawn(
    layers: tuple[Float32Array, list[int]], seed: int | None
) -> None:
    values, counts = layers
    got = through(I8, values, counts, seed)
    start = 0
    for count in counts:
        sent = values[start : start + count].astype(np.float64)
        error = np.abs(got[start : start + count] - sent)
        scale = max(np.abs(sent).max(initial=0) / 127, SMALLEST_SCALE)
        assert (error <= scale * (0.50001 if seed is None else 1.00001)).all()
        assert not got[start : start + count][sent == 0].any()
        start += count


@settings(deadline=None)
@given(layers(1e30), SEEDS)
def test_what_came_out_of_a_byte_goes_through_another_unchanged_to_rounding(
    layers: tuple[Float32Array, list[int]], seed: int
) -> None:
    values, counts = layers
    once = through(I8, values, counts, None)
    again = through(I8, once, counts, seed)
    np.testing.assert_allclose(again, once, rtol=1e-6, atol=1e-44)


@settings(deadline=None)
@given(st.sampled_from([*VALUE_BYTES, "f64", ""]), st.binary(max_size=48), COUNTS,
       st.integers(0, 4))  # fmt: skip
def test_noise_is_finite_values_or_refused(
    codec: str, data: bytes, counts: list[int], num_dense: int
) -> None:
    try:
        got = decode_values(codec, data, counts, num_dense)
    except RemoteProtocolError:
        return
    assert got.prunable.shape == (sum(counts),)
    assert got.dense.shape == (num_dense,)
    assert np.isfinite(got.prunable).all()
    assert np.isfinite(got.dense).all()


@settings(deadline=None)
@given(arrays(np.bool_, 40), arrays(np.bool_, 40))
def test_values_are_carried_over_as_through_a_dense_array(old: BoolArray, new: BoolArray) -> None:
    values = np.arange(1, 1 + np.count_nonzero(old), dtype=np.float32)
    dense = np.zeros(40, np.float32)
    dense[old] = values
    assert np.array_equal(carry_over(values, old, new), dense[new])
