"""Uneven classes on devices of equal size."""

from __future__ import annotations

import numpy as np

from fedsparse.errors import DataError
from fedsparse.types import Float64Array, IntArray
from tools.datasets.dataset import Request


def dirichlet_shards(labels: IntArray, request: Request) -> tuple[IntArray, ...]:
    """Deal samples to devices, each with its own mixture of classes.

    Each device draws class proportions from a symmetric Dirichlet(`alpha`), then its samples from
    what is left of the classes in those proportions. A class that runs out is replaced by the
    others, so the last devices follow their mixture less closely; all devices get the same number.

    Args:
        labels: `(samples,)`, classes from 0.
        request: devices, seed, alpha, and the most samples a device may get.

    Returns:
        Sorted indices into `labels`, one array a device; no sample is dealt twice.

    Raises:
        DataError: there are fewer samples than devices.

    Source: Hsu, Qi, Brown 2019, "Measuring the effects of non-identical data distribution",
        section 3; deviation: without replacement, so that no sample is on two devices.
    """
    size = len(labels) // request.devices
    if size < 1:
        raise DataError(f"{len(labels)} samples cannot be divided among {request.devices} devices")
    if request.samples is not None:
        size = min(size, request.samples)
    rng = np.random.default_rng(request.seed)
    pools = [list(rng.permutation(np.flatnonzero(labels == c))) for c in range(labels.max() + 1)]
    shards = []
    for _ in range(request.devices):
        proportions = rng.dirichlet(np.full(len(pools), request.alpha))
        counts = _draw_counts(proportions, np.array([len(pool) for pool in pools]), size, rng)
        taken = [
            pool.pop() for pool, count in zip(pools, counts, strict=True) for _ in range(count)
        ]
        shards.append(np.sort(np.array(taken, dtype=np.int64)))
    return tuple(shards)


def _draw_counts(
    proportions: Float64Array, left: IntArray, size: int, rng: np.random.Generator
) -> IntArray:
    """How many samples of each class: multinomial, never more than are left, `size` in all."""
    counts = np.zeros_like(left)
    while (missing := size - int(counts.sum())) > 0:
        open_classes = counts < left
        # A tiny floor keeps the draw possible when all likely classes have run out.
        weights = np.where(open_classes, np.maximum(proportions, 1e-9), 0.0)
        drawn = rng.multinomial(missing, weights / weights.sum())
        counts = np.minimum(counts + drawn, left)
    return counts
