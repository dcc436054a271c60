"""Sparsity consensus: how far the masks of a round agree, among clients and with the server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsparse.types import BoolArray


class Consensus:
    """Counts how many clients keep each position; memory O(model), whatever the number of clients.

    With `c_j` the number of the `n` clients that keep position `j` of a tensor:

    * `clients()`: `sum_j c_j (c_j - 1) / ((n - 1) sum_j c_j)`, the chance that a position which one
      client keeps, both drawn at random, is kept by another client, too. 1 = all masks are the
      same; independent random masks of one density come to about that density.
    * `server(s)`: `sum_j s_j c_j / sum_j c_j`, the share of the positions kept by clients that the
      mask `s` keeps, too.

    The order of `add` does not matter.

    Args:
        layers: the slice of each prunable tensor, end to end (`layer_slices(plan)`).

    Source: the notion is the FLASH paper's; the definition is ours: the mean overlap of all ordered
    pairs of clients, each weighted by what the first of them keeps.
    """

    def __init__(self, layers: Sequence[slice]) -> None:
        self._layers = tuple(layers)
        self._counts = np.zeros(self._layers[-1].stop if self._layers else 0, np.uint32)
        self.masks = 0  # how many were added

    def add(self, mask: BoolArray) -> None:
        """Count one client's mask, `(num_prunable,)`.

        Raises:
            ValueError: it has another size.
        """
        self._check(mask)
        self._counts += mask
        self.masks += 1

    def kept(self) -> tuple[int, ...]:
        """How many positions of each tensor the clients keep, in sum; `(tensors,)`."""
        return tuple(int(self._counts[layer].sum(dtype=np.int64)) for layer in self._layers)

    def clients(self) -> tuple[float, ...]:
        """The clients' consensus among each other, for each tensor; `(tensors,)` in [0, 1].

        Raises:
            ValueError: there are fewer than two masks, or nobody keeps anything of a tensor.
        """
        if self.masks < 2:
            raise ValueError(f"consensus needs the masks of at least two clients, got {self.masks}")
        values = []
        for layer, kept in zip(self._layers, self._kept_by_someone(), strict=True):
            counts = self._counts[layer].astype(np.int64)
            values.append(int(counts @ (counts - 1)) / ((self.masks - 1) * kept))
        return tuple(values)

    def server(self, mask: BoolArray) -> tuple[float, ...]:
        """The clients' consensus with the server's `mask`, for each tensor; `(tensors,)`.

        Raises:
            ValueError: the mask has another size, or nobody keeps anything of a tensor.
        """
        self._check(mask)
        shared = (self._counts[one][mask[one]].sum(dtype=np.int64) for one in self._layers)
        return tuple(
            int(both) / kept for both, kept in zip(shared, self._kept_by_someone(), strict=True)
        )

    def _check(self, mask: BoolArray) -> None:
        if mask.dtype != np.bool_ or mask.shape != self._counts.shape:
            raise ValueError(
                f"expected a mask of {self._counts.size} positions, got {mask.dtype} {mask.shape}"
            )

    def _kept_by_someone(self) -> tuple[int, ...]:
        kept = self.kept()
        if 0 in kept:
            raise ValueError(f"no client keeps a weight of tensor {kept.index(0)}")
        return kept
