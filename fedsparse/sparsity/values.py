"""Kept and dense values as bytes, exactly or with fewer bits (docs/wire.md, section 5).

    f32     four bytes for every value, exactly
    f16     two for a kept value, rounded to the nearest
    i8      one for a kept value: steps of a scale that each prunable tensor has of its own

Dense values (biases, normalisation, excluded layers) are few and sensitive: float32 in each.
Every decoder treats its input as hostile, as those of `packing` do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from fedsparse.errors import LocalProtocolError, RemoteProtocolError
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.codecs import DENSE_BYTES, F16, I8, VALUE_BYTES

SCALE_BYTES: Final = 4
STEPS: Final = 127
# A scale is a normal float32, and its largest multiple finite.
SMALLEST_SCALE: Final = float(np.finfo(np.float32).tiny)
LARGEST_SCALE: Final = 1e36
LARGEST_F16: Final = 65504.0
BLOCK: Final = 1 << 14  # values that are rounded at once
# Yields so many random bytes: `random.Random(seed).randbytes`, or the `bytes` of a numpy generator.
# A device uses the first: importing numpy's generators would cost it memory and time.
RandomBytes: TypeAlias = Callable[[int], bytes]


def encode_values(
    weights: Weights, codec: str, counts: Sequence[int], draw: RandomBytes | None = None
) -> bytes:
    """Write kept values, then dense values.

    Args:
        weights: prunable `(nnz,)`, dense `(num_dense,)`.
        codec: `f32`, `f16` or `i8`.
        counts: kept values of each prunable tensor, in plan order.
        draw: of stochastic rounding (`i8`); without it values are rounded to the nearest.

    Raises:
        LocalProtocolError: a value is not finite, or too large for the codec: nobody could use it.
        RemoteProtocolError: there is no such codec; it is the peer who asked for it.
    """
    _check_codec(codec)
    for values in (weights.prunable, weights.dense):
        if not np.isfinite(values).all():
            raise LocalProtocolError("weights to send are not finite: lower the learning rate")
    dense = np.ascontiguousarray(weights.dense, "<f4").data
    if codec == I8:
        return b"".join((*_to_steps(weights.prunable, counts, draw), dense))
    if codec == F16 and (largest := _largest(weights.prunable)) > LARGEST_F16:
        raise LocalProtocolError(
            f"a value of {largest:g} does not fit in float16: training has diverged, or set 'f32' "
            "in [values] of job.toml"
        )
    kept = np.ascontiguousarray(weights.prunable, "<f2" if codec == F16 else "<f4").data
    return b"".join((kept, dense))


def decode_values(
    codec: str, data: bytes | memoryview, counts: Sequence[int], num_dense: int
) -> Weights:
    """Read kept values `(nnz,)` and dense values `(num_dense,)`.

    Args:
        codec: as the part says.
        data: the part's bytes.
        counts: kept values of each prunable tensor, by the mask that they are under.
        num_dense: dense values of the plan.

    Raises:
        RemoteProtocolError: the codec is unknown, the length is wrong, a scale or a step is out of
            range, or a value is not finite.
    """
    _check_codec(codec)
    nnz = sum(counts)
    kept_bytes = VALUE_BYTES[codec] * nnz + (SCALE_BYTES * len(counts) if codec == I8 else 0)
    if len(data) != kept_bytes + DENSE_BYTES * num_dense:
        raise RemoteProtocolError(
            f"values: {len(data)} bytes for {nnz} kept and {num_dense} dense as '{codec}'"
        )
    dense = np.frombuffer(data, "<f4", num_dense, kept_bytes).astype(np.float32)
    if codec == I8:
        kept = _from_steps(data, counts)
    else:
        form = "<f2" if codec == F16 else "<f4"
        kept = np.frombuffer(data, form, nnz).astype(np.float32)
    for before, values in ((0, kept), (nnz, dense)):
        if not (finite := np.isfinite(values)).all():
            raise RemoteProtocolError(f"values: position {before + finite.argmin()} is no number")
    return Weights(prunable=kept, dense=dense)


class ValuesReader:
    """Values as bytes somewhere, read in pieces: the same to the bit as `decode_values` has them.

    Args:
        codec, counts: as of `decode_values`, which has accepted these bytes.
        read: yields so many bytes from an offset on, which is counted from where the part begins.
    """

    def __init__(
        self, codec: str, counts: Sequence[int], read: Callable[[int, int], bytes]
    ) -> None:
        _check_codec(codec)
        self._codec = codec
        self._layers = list(_layers(counts))
        self._scales: npt.NDArray[np.float32] | None = None
        self._read = read
        self._first = SCALE_BYTES * len(counts) if codec == I8 else 0
        self._dense = self._first + VALUE_BYTES[codec] * sum(counts)

    def kept(self, start: int, stop: int) -> Float32Array:
        """The kept values from `start` to `stop`, `(stop - start,)`."""
        size = VALUE_BYTES[self._codec]
        data = self._read(self._first + size * start, size * (stop - start))
        if self._codec != I8:
            return np.frombuffer(data, "<f2" if self._codec == F16 else "<f4").astype(np.float32)
        if self._scales is None:
            self._scales = np.frombuffer(self._read(0, self._first), "<f4")
        steps = np.frombuffer(data, np.int8)
        values = np.empty(steps.size, np.float32)
        for scale, layer in zip(self._scales, self._layers, strict=True):
            here = slice(max(layer.start - start, 0), max(layer.stop - start, 0))
            np.multiply(steps[here], scale, out=values[here], dtype=np.float32)
        return values

    def dense(self, start: int, stop: int) -> Float32Array:
        """The dense values from `start` to `stop`."""
        data = self._read(self._dense + DENSE_BYTES * start, DENSE_BYTES * (stop - start))
        return np.frombuffer(data, "<f4").astype(np.float32)


def carry_over(values: Float32Array, old: BoolArray, new: BoolArray) -> Float32Array:
    """Values `(nnz of old,)` under a new mask: 0 where the old one does not keep.

    Args:
        values: in plan order.
        old, new: `(num_prunable,)`.
    """
    both = old & new
    carried = np.zeros(np.count_nonzero(new), np.float32)
    carried[both[new]] = values[both[old]]
    return carried


def _check_codec(codec: str) -> None:
    if codec not in VALUE_BYTES:
        known = ", ".join(f"'{name}'" for name in VALUE_BYTES)
        raise RemoteProtocolError(f"values codec '{codec[:32]}' is none of {known}")


def _to_steps(
    values: Float32Array, counts: Sequence[int], draw: RandomBytes | None
) -> tuple[bytes, bytes]:
    """The scales of all tensors, and every value as a number of steps of its tensor's scale."""
    scales, steps = np.empty(len(counts), "<f4"), np.empty(values.size, np.int8)
    for index, layer in enumerate(_layers(counts)):
        scale = max(_largest(values[layer]) / STEPS, SMALLEST_SCALE)
        if scale > LARGEST_SCALE:
            raise LocalProtocolError(f"a value of {STEPS * scale:g} to send: training has diverged")
        scales[index] = scale
        for start in range(layer.start, layer.stop, BLOCK):
            block = slice(start, min(start + BLOCK, layer.stop))
            steps[block] = _rounded(values[block].astype(np.float64) / scales[index], draw)
    return scales.tobytes(), steps.tobytes()


def _rounded(steps: npt.NDArray[np.float64], draw: RandomBytes | None) -> npt.NDArray[np.float64]:
    """Whole steps: the one below or above, the nearer the likelier, so that the mean is right.

    A draw has 16 bits. What they cannot tell apart, 2^-17 of a step, is 2^-24 of the tensor's
    largest value: as much as its float32 leaves open.
    """
    if draw is None:
        whole = np.rint(steps)
    else:
        uniform = (np.frombuffer(draw(2 * steps.size), "<u2") + 0.5) / 65536
        whole = np.floor(steps + uniform)
    return np.clip(whole, -STEPS, STEPS)


def _from_steps(data: bytes | memoryview, counts: Sequence[int]) -> Float32Array:
    scales = np.frombuffer(data, "<f4", len(counts))
    if not ((scales >= 0) & (scales <= LARGEST_SCALE)).all():
        raise RemoteProtocolError(f"values: a scale is not between 0 and {LARGEST_SCALE:g}")
    steps = np.frombuffer(data, np.int8, sum(counts), SCALE_BYTES * len(counts))
    if steps.min(initial=0) < -STEPS:
        raise RemoteProtocolError(f"values: a step of {steps.min()}; they go to {-STEPS}")
    values = np.empty(steps.size, np.float32)
    for scale, layer in zip(scales, _layers(counts), strict=True):
        np.multiply(steps[layer], scale, out=values[layer], dtype=np.float32)
    return values


def _largest(values: Float32Array) -> float:
    return float(max(values.max(initial=0), -values.min(initial=0)))


def _layers(counts: Sequence[int]) -> Iterator[slice]:
    """Where each tensor's kept values lie."""
    return itertools.starmap(slice, itertools.pairwise(itertools.accumulate(counts, initial=0)))
