"""The kernels' own elementary functions: relative errors against double precision."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import numpy as np
import pytest

from edge_client.runtime.native.library import LANES, Library
from edge_client.runtime.native.structures import ARGUMENTS, Call
from fedsparse.types import Float32Array, Float64Array

VARIANTS = [Library(variant=name) for name in Library().variants]
EXTREMES = np.array([1e20, -1e20, 3e38, -3e38, 1e-40, -1e-40, 0.0, -0.0], np.float32)

pytestmark = pytest.mark.parametrize("library", VARIANTS, ids=lambda library: library.variants[0])


def run(library: Library, kernel: str, x: Float32Array) -> Float32Array:
    """An activation, forward."""
    x, y = with_room(x), np.empty(x.size, np.float32)
    arguments = ARGUMENTS[kernel](count=x.size, input=x.ctypes.data, output=y.ctypes.data)
    call = Call(
        function=library.kernel(kernel), arguments=ctypes.addressof(arguments),
        units=x.size, chunk=x.size,
    )  # fmt: skip
    library.run(ctypes.addressof(call), 1, 1, None)
    return y


def with_room(x: Float32Array) -> Float32Array:
    """A copy, with a vector's room behind it, as in an engine's arena."""
    return np.concatenate([x, np.zeros(max(LANES.values()), np.float32)])[: x.size]


def worst(actual: Float32Array, expected: Float64Array) -> float:
    """The largest relative error; numbers below the smallest normal one are as good as zero."""
    floor = np.maximum(np.abs(expected), np.finfo(np.float32).tiny)
    return float((np.abs(actual - expected) / floor).max())


def normal_share(x: Float64Array) -> Float64Array:
    return np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in x])


@pytest.mark.parametrize(
    ("kernel", "function", "low", "high", "error"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), -87, 90, 2e-7),
        ("sigmoid", np.exp, -110, -40, 2e-7),  # the exponential alone
        ("tanh", np.tanh, -12, 12, 2e-7),
        ("tanh", np.tanh, -1e-3, 1e-3, 2e-7),
        ("silu", lambda x: x / (1 + np.exp(-x)), -80, 80, 4e-7),
        ("gelu", lambda x: x * normal_share(x), -6, 12, 2e-6),
        ("hard_swish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), -2.5, 9, 1e-6),
    ],
)
def test_the_relative_error_is_small(
    library: Library,
    kernel: str,
    function: Callable[[Float64Array], Float64Array],
    low: float,
    high: float,
    error: float,
) -> None:
    x = np.linspace(low, high, 200_001).astype(np.float32)
    assert worst(run(library, kernel, x), function(x.astype(np.float64))) < error


@pytest.mark.parametrize(
    ("kernel", "limits"),
    [
        ("relu", (np.inf, 0)), ("relu6", (6, 0)), ("sigmoid", (1, 0)), ("tanh", (1, -1)),
        ("hard_sigmoid", (1, 0)),
    ],
)  # fmt: skip
def test_infinity_gives_the_limit(
    library: Library, kernel: str, limits: tuple[float, float]
) -> None:
    ends = run(library, kernel, np.array([np.inf, -np.inf], np.float32))
    np.testing.assert_array_equal(ends, np.array(limits, np.float32))


@pytest.mark.parametrize("kernel", ["relu", "relu6", "sigmoid", "tanh", "silu", "gelu",
                                    "gelu_tanh", "hard_sigmoid", "hard_swish"])  # fmt: skip
def test_nan_passes_and_nothing_else_makes_one(library: Library, kernel: str) -> None:
    x = np.concatenate([np.full(21, np.nan, np.float32), EXTREMES])
    y = run(library, kernel, x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    backward = f"{kernel}_backward"
    gradient = with_room(np.ones(EXTREMES.size, np.float32))
    held = with_room(EXTREMES if kernel in ("silu", "gelu", "gelu_tanh", "hard_swish") else y[21:])
    arguments = ARGUMENTS[backward](
        count=held.size, input=held.ctypes.data, output=gradient.ctypes.data
    )
    call = Call(
        function=library.kernel(backward), arguments=ctypes.addressof(arguments),
        units=held.size, chunk=held.size,
    )  # fmt: skip
    library.run(ctypes.addressof(call), 1, 1, None)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient) <= 1.2).all()
