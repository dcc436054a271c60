"""The mean without the extremes: what a few clients send cannot move it far.

Values are read in blocks of coordinates, since a cohort's values do not fit in memory together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import numpy as np

from fedsparse.types import BoolArray, Float32Array, Float64Array

MOST_VALUES: Final = 1 << 20  # of all clients together in one block
ROUNDING: Final = 1e-9  # 0.29 * 100 is a little less than 29
ALIGNMENT: Final = 8  # coordinates: blocks begin at whole bytes of a packed mask

Block = tuple[BoolArray, Float32Array]


class Client(Protocol):
    """One client's values, in pieces."""

    @property
    def weight(self) -> float:
        """What its values count beside those of others that are left with them."""
        ...

    def blocks(self, size: int) -> Iterator[Block]:
        """All coordinates in order, `size` of them at a time (fewer in the last block).

        Yields:
            Which of them it holds, `(size,)`, and its values there, `(held,)`, finite.
        """
        ...


def block_size(clients: int, most_values: int = MOST_VALUES) -> int:
    """Coordinates that are dealt with at once, so that all clients' are at most `most_values`."""
    return max(ALIGNMENT, most_values // max(1, clients) // ALIGNMENT * ALIGNMENT)


def left_out(trim: float, holders: int) -> int:
    """How many values are left out at each end, of so many."""
    return math.floor(trim * holders + ROUNDING)


def trimmed_mean(
    clients: Sequence[Client],
    previous: Float32Array,
    trim: float,
    most_values: int = MOST_VALUES,
) -> Float32Array:
    """At each coordinate, the mean over its holders but the largest and the smallest values.

    Of `m` holders `k = floor(trim * m)` are left out at each end. What is left lies between values
    of honest clients as long as at most `k` of the holders lie: the largest honest value that is
    left out is no smaller than any that stays. Examples do not count, since a client says itself
    how many it has.

    Args:
        clients: whose values; the result does not depend on their order.
        previous: `(params,)`; a coordinate that nobody holds keeps its value.
        trim: share of the holders that is left out at each end, in [0, 0.5).
        most_values: of all clients together that are in memory at once; each takes up to 14
            bytes, and 32 where the weights of clients differ.

    Source: D. Yin et al., Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates,
    ICML 2018, section 4.2; deviations: over those who hold a coordinate, and stale updates weigh
    less where they are not left out.
    """
    mean: Float32Array = previous.copy()
    size = block_size(len(clients), most_values)
    weights = np.array([client.weight for client in clients], np.float64)
    streams = [client.blocks(size) for client in clients]
    for start in range(0, previous.size if clients else 0, size):
        blocks = [next(stream) for stream in streams]
        block = mean[start : start + size]
        held = np.logical_or.reduce([holds for holds, _ in blocks])
        values = np.full((len(clients), np.count_nonzero(held)), np.inf, np.float32)
        for row, (holds, kept) in zip(values, blocks, strict=True):
            row[holds[held]] = kept
        block[held] = _trimmed(values, weights, trim)
    return mean


def _trimmed(values: Float32Array, weights: Float64Array, trim: float) -> Float64Array:
    """`(columns,)`; of `values` `(clients, columns)`, which are infinite where nobody holds."""
    holders = np.isfinite(values).sum(axis=0)
    least = np.floor(trim * holders + ROUNDING).astype(np.int64)
    values, ordered = _sorted(values, weights)
    total, weight = np.zeros(holders.size), np.zeros(holders.size)
    for rank, (row, counts) in enumerate(zip(values, ordered, strict=True)):
        stays = np.where((rank >= least) & (rank < holders - least), counts, 0.0)
        total += stays * np.where(stays > 0, row, np.float32(0))
        weight += stays
    return total / weight


def _sorted(values: Float32Array, weights: Float64Array) -> tuple[Float32Array, Float64Array]:
    """Every column from the smallest value on, maybe in place, and the weights that go with it."""
    if (weights == weights[0]).all():
        values.sort(axis=0)
        return values, np.ones((len(values), 1))
    order = np.lexsort((np.broadcast_to(weights[:, None], values.shape), values), axis=0)
    return np.take_along_axis(values, order, axis=0), weights[order]
