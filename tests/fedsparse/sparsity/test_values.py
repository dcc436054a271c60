"""The codecs of values: golden bytes, what is refused, and that rounding is right on average."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.sparsity.values import BLOCK, ValuesReader, decode_values, encode_values
from fedsparse.types import Weights
from fedsparse.wire.codecs import F16, F32, I8, VALUE_BYTES

DENSE = np.array([2.0**-130], np.float32)


def weights(*kept: float) -> Weights:
    return Weights(prunable=np.array(kept, np.float32), dense=DENSE)


def halves(size: int) -> bytes:
    """Draws that lie in the middle."""
    return b"\xff\x7f" * (size // 2)


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (F32, "0000803f 000000bf 00000000 0000c842" "00000800"),
        (F16, "003c 00b8 0000 4056" "00000800"),
        # scales 1/127 and 100/127; steps 127, -63.5 (the draw is just below a half), 0, 127
        (I8, "0402013c 2693493f" "7f c0 00 7f" "00000800"),
    ],
)  # fmt: skip
def test_golden_bytes_of_values(codec: str, expected: str) -> None:
    sent = weights(1, -0.5, 0, 100)
    assert encode_values(sent, codec, (2, 2), halves).hex() == expected.replace(" ", "")


def test_golden_bytes_of_drawn_steps() -> None:
    """The draws of a device are part of what it reproduces."""
    draw = random.Random("7/3/values").randbytes
    data = encode_values(weights(127, *[0.5] * 8, *[-0.25] * 8), I8, (17,), draw)
    assert data[4:21].hex() == "7f010100010100010000000000000000ff"


@pytest.mark.parametrize("codec", VALUE_BYTES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_not_sent(codec: str, value: float) -> None:
    for sent in (weights(1, value), Weights(prunable=DENSE, dense=np.array([value], np.float32))):
        with pytest.raises(LocalProtocolError, match="not finite: lower the learning rate"):
            encode_values(sent, codec, (sent.prunable.size,))


def test_values_too_large_for_the_codec_are_not_sent() -> None:
    assert decode_values(F16, encode_values(weights(-65504), F16, (1,)), (1,), 1).prunable == -65504
    with pytest.raises(LocalProtocolError, match=r"65505 does not fit in float16.*\[values\]"):
        encode_values(weights(0, -65505), F16, (2,))
    with pytest.raises(LocalProtocolError, match="diverged"):
        encode_values(weights(3e38), I8, (1,))


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float32_values_that_are_no_numbers_are_refused(place: int, value: float) -> None:
    values = np.ones(3, np.float32)
    values[place] = value
    with pytest.raises(RemoteProtocolError, match=f"position {place} is no number"):
        decode_values(F32, values.tobytes(), (2,), 1)


@pytest.mark.parametrize("bits", ["007c", "00fc", "017c", "00fe", "ff7f"])
def test_float16_values_that_are_no_numbers_are_refused(bits: str) -> None:
    with pytest.raises(RemoteProtocolError, match="position 1 is no number"):
        decode_values(F16, bytes.fromhex("003c" + bits + "00000000"), (2,), 1)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, -1e-30, 1.1e36])
def test_scales_out_of_range_are_refused(scale: float) -> None:
    data = struct.pack("<ff", 1.0, scale) + bytes(2 + 4)
    with pytest.raises(RemoteProtocolError, match="a scale is not between 0 and 1e"):
        decode_values(I8, data, (1, 1), 1)


def test_the_step_minus_128_is_refused() -> None:
    data = struct.pack("<fbb", 1.0, -127, -128)
    with pytest.raises(RemoteProtocolError, match="a step of -128"):
        decode_values(I8, data, (2,), 0)
    assert decode_values(I8, data[:-1], (1,), 0).prunable == -127


@pytest.mark.parametrize(
    ("codec", "right"), [(F32, 4 * 3 + 4), (F16, 2 * 3 + 4), (I8, 2 * 4 + 3 + 4)]
)
def test_values_of_another_length_are_refused(codec: str, right: int) -> None:
    assert decode_values(codec, bytes(right), (1, 2), 1).prunable.tolist() == [0, 0, 0]
    for size in (0, right - 4, right - 1, right + 1, right + 4):
        with pytest.raises(
            RemoteProtocolError, match=f"{size} bytes for 3 kept and 1 dense as '{codec}'"
        ):
            decode_values(codec, bytes(size), (1, 2), 1)


@pytest.mark.parametrize("codec", ["f64", "", "F32", "i8 " * 1000])
def test_an_unknown_codec_is_refused_both_ways(codec: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r"is none of 'f32', 'f16', 'i8'$") as caught:
        decode_values(codec, b"", (), 0)
    assert len(str(caught.value)) < 100
    with pytest.raises(RemoteProtocolError, match="is none of"):
        encode_values(weights(1), codec, (1,))


def test_stochastic_rounding_is_unbiased() -> None:
    """The mean of n draws of a step lies within 5 deviations of at most 1/(2 sqrt(n)) steps."""
    rng, draws = np.random.default_rng(0), 4_000
    values = np.append(rng.uniform(-126, 126, 30), [127.0, 0.001, -0.999, 0.5]).astype(np.float32)
    draw = random.Random("unbiased").randbytes
    total = np.zeros(values.size)
    for _ in range(draws):
        data = encode_values(Weights(prunable=values, dense=DENSE[:0]), I8, (values.size,), draw)
        total += decode_values(I8, data, (values.size,), 0).prunable
    assert np.abs(total / draws - values).max() < 5 * 0.5 / np.sqrt(draws)
    nearest = decode_values(
        I8, encode_values(Weights(prunable=values, dense=DENSE[:0]), I8, (values.size,)),
        (values.size,), 0,
    )  # fmt: skip
    assert np.abs(nearest.prunable - values).max() > 5 * 0.5 / np.sqrt(draws)  # the test can fail


def test_the_largest_value_of_a_tensor_comes_back_and_so_do_zeros() -> None:
    sent = weights(3, -0.7, 0, 0, 1e-42)
    for seed in range(50):
        data = encode_values(sent, I8, (2, 2, 1), random.Random(seed).randbytes)
        got = decode_values(I8, data, (2, 2, 1), 1).prunable
        assert got[0] == pytest.approx(3, rel=1e-6)
        assert got[2:4].tolist() == [0, 0]


def test_a_tensor_is_rounded_alike_whatever_comes_before_it() -> None:
    """Blocks and tensors have their own limits: a long tensor is cut where it should be."""
    values = np.linspace(-1, 1, 2 * BLOCK + 7, dtype=np.float32)
    long = encode_values(Weights(prunable=values, dense=DENSE[:0]), I8, (values.size,), halves)
    padded = np.concatenate([np.float32([8, 9, 10]), values])
    both = encode_values(Weights(prunable=padded, dense=DENSE[:0]), I8, (3, values.size), halves)
    assert both[8 + 3 :] == long[4:]


@settings(deadline=None)
@given(
    codec=st.sampled_from(sorted(VALUE_BYTES)),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    num_dense=st.integers(0, 7),
    size=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_that_are_read_in_pieces_are_those_of_the_whole_to_the_bit(
    codec: str, counts: list[int], num_dense: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    nnz = sum(counts)
    sent = Weights(
        prunable=rng.standard_normal(nnz, np.float32),
        dense=rng.standard_normal(num_dense, np.float32),
    )
    data = encode_values(sent, codec, counts)
    reader = ValuesReader(codec, counts, lambda offset, length: data[offset : offset + length])
    whole = decode_values(codec, data, counts, num_dense)
    for read, values in ((reader.kept, whole.prunable), (reader.dense, whole.dense)):
        pieces = [
            read(start, min(start + size, values.size)) for start in range(0, values.size, size)
        ]
        assert b"".join(piece.tobytes() for piece in pieces) == values.tobytes()
