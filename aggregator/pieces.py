"""Updates read in pieces from the spool: what the trimmed mean takes for its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from aggregator.aggregation import Shrinkage, factors_of
from fedsparse.methods.clipping import shrunk
from fedsparse.methods.trimmed_mean import Block
from fedsparse.sparsity.packing import pack
from fedsparse.sparsity.values import ValuesReader
from fedsparse.types import BoolArray, Float32Array


class MasksOnDisk:
    """Masks of a cohort in one file that nobody else sees: a bit for each weight of each mask.

    Args:
        num_prunable: bits of a mask.
        folder: of the file, which is gone when this is closed.
    """

    def __init__(self, num_prunable: int, folder: Path) -> None:
        self._size = -(-num_prunable // 8)
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 (see `__exit__`)
        self._places: dict[str, int] = {}

    def __enter__(self) -> MasksOnDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, digest: str, mask: Callable[[], BoolArray]) -> None:
        """Keep a mask `(num_prunable,)`; it is asked for where it is not here yet."""
        if digest not in self._places:
            place = len(self._places) * self._size
            self._file.seek(place)
            self._file.write(pack(mask()))
            self._places[digest] = place

    def block(self, digest: str, start: int, stop: int) -> BoolArray:
        """A mask from `start`, a whole byte, to `stop`."""
        self._file.seek(self._places[digest] + start // 8)
        bits = np.frombuffer(self._file.read(-(-(stop - start) // 8)), np.uint8)
        return np.unpackbits(bits, count=stop - start, bitorder="little").view(np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunablePieces:
    """The prunable values of one update; a client of the trimmed mean.

    Attributes:
        masks: has the masks that follow.
        under: digest of the one that its values are under.
        given: digest of the one that its device was given.
        values: the update's bytes.
        before: the model's own values at its level, `(num_prunable,)`.
        is_change: whether its values are to be added to those.
        factor: by which its change is multiplied.
        weight: see `Client`.
    """

    masks: MasksOnDisk
    under: str
    given: str
    values: ValuesReader
    before: Float32Array
    is_change: bool
    factor: float
    weight: float = 1.0

    def blocks(self, size: int) -> Iterator[Block]:
        """See `Client`."""
        kept = 0
        for start in range(0, self.before.size, size):
            stop = min(start + size, self.before.size)
            holds = self.masks.block(self.under, start, stop)
            values = self.values.kept(kept, kept + int(np.count_nonzero(holds)))
            kept += values.size
            before = self.before[start:stop][holds]
            if self.given != self.under:  # where it grew it began at 0
                before[~self.masks.block(self.given, start, stop)[holds]] = 0
            after = before + values if self.is_change else values
            yield holds, shrunk(before, after, self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class DensePieces:
    """The dense values of one update; a client of the trimmed mean.

    Attributes:
        values: the update's bytes.
        before: those of the model at its level, `(num_dense,)`.
        shrinkage: of its changes.
        is_running: which values are running statistics, `(num_dense,)`.
        weight: see `Client`.
    """

    values: ValuesReader
    before: Float32Array
    shrinkage: Shrinkage
    is_running: BoolArray
    weight: float = 1.0

    def blocks(self, size: int) -> Iterator[Block]:
        """See `Client`."""
        for start in range(0, self.before.size, size):
            stop = min(start + size, self.before.size)
            after = self.values.dense(start, stop)
            factors = factors_of(self.shrinkage, self.is_running[start:stop])
            values = shrunk(self.before[start:stop], after, factors)
            yield np.ones(stop - start, np.bool_), values
