"""What a data set yields, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from fedsparse.errors import DataError
from fedsparse.types import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The samples of one device, or of the test set.

    Attributes:
        holder: whose they are, in words.
        x: `(samples, channels, *spatial)`, as they come, not normalised.
        y: `(samples,)`, classes from 0.
    """

    holder: str
    x: npt.NDArray[Any]
    y: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """A data set divided among devices.

    Attributes:
        shards: one a device.
        test: samples that no device has.
        class_names: of class 0, 1, ...
    """

    shards: tuple[Shard, ...]
    test: Shard
    class_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How to divide.

    Attributes:
        devices: how many shards.
        seed: of everything random.
        alpha: of the Dirichlet distribution over classes; small is uneven. Unused where the data
            have natural owners.
        samples: at most so many a device, or None for an even share of all.
        cache: folder of downloads.
    """

    devices: int
    seed: int
    alpha: float
    cache: Path
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise DataError(f"devices must be at least 1, got {self.devices}")
        if self.seed < 0:
            raise DataError(f"seed must not be negative, got {self.seed}")
        if not 1e-3 <= self.alpha <= 1e6:
            raise DataError(f"alpha must be 0.001 to 1000000, got {self.alpha}")
        if self.samples is not None and self.samples < 1:
            raise DataError(f"samples must be at least 1, got {self.samples}")


class Dataset(Protocol):
    """A public data set.

    Attributes:
        name: on the command line.
        summary: one line, with size and licence.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def summary(self) -> str: ...  # noqa: D102

    def divide(self, request: Request) -> Federation:
        """Load it and divide it.

        Raises:
            DataError: it cannot be fetched, or not divided as requested.
        """
        ...
