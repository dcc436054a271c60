"""A data set on disk: one `.npz` a device, a test set, and a description."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fedsparse.types import Float64Array
from tools.datasets.dataset import Dataset, Request, Shard
from tools.datasets.npm import default_cache
from tools.datasets.registry import find_dataset

DEFAULT_DEVICES: Final = 8
DEFAULT_ALPHA: Final = 0.5
DESCRIPTION: Final = "dataset.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was written.

    Attributes:
        name: of the data set.
        devices: one `.npz` each, with `x` float16 `(samples, *input_shape)` and `y`.
        holders: whose samples each device has.
        samples: how many each device has.
        test: the `.npz` of the test set.
        input_shape, classes, class_names: what a model for it needs.
        mean, deviation: per channel, of the devices' samples; taken from every file. Fleets that
            may not share even these normalise on the device.
    """

    name: str
    seed: int
    devices: tuple[Path, ...]
    holders: tuple[str, ...]
    samples: tuple[int, ...]
    test: Path
    test_samples: int
    input_shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def to_document(self) -> dict[str, Any]:
        """For JSON; paths become file names beside the description."""
        document = dataclasses.asdict(self)
        return document | {
            "devices": [path.name for path in self.devices],
            "test": self.test.name,
        }


def prepare(
    dataset: str | Dataset,
    folder: Path,
    devices: int = DEFAULT_DEVICES,
    seed: int = 0,
    *,
    alpha: float = DEFAULT_ALPHA,
    samples: int | None = None,
    cache: Path | None = None,
) -> Prepared:
    """Divide a data set and write it, the same bytes for the same arguments.

    Args:
        dataset: its name, or the data set itself.
        folder: is created; `device-*.npz` of an earlier run in it are replaced.
        devices: how many shards.
        seed: of everything random.
        alpha: unevenness of classes where the data have no natural owners; small is uneven.
        samples: at most so many a device; None takes all.
        cache: folder of downloads; None takes `default_cache()`.

    Raises:
        DataError: no such data set, it cannot be fetched, or not divided so.
    """
    source = find_dataset(dataset) if isinstance(dataset, str) else dataset
    request = Request(
        devices=devices, seed=seed, alpha=alpha, samples=samples, cache=cache or default_cache()
    )
    federation = source.divide(request)
    mean, deviation = _statistics(federation.shards)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("device-*.npz"):
        stale.unlink()
    paths = tuple(folder / f"device-{index:02d}.npz" for index in range(devices))
    for path, shard in zip(paths, federation.shards, strict=True):
        _write(path, shard, mean, deviation)
    _write(folder / "test.npz", federation.test, mean, deviation)
    prepared = Prepared(
        name=source.name,
        seed=seed,
        devices=paths,
        holders=tuple(shard.holder for shard in federation.shards),
        samples=tuple(len(shard.y) for shard in federation.shards),
        test=folder / "test.npz",
        test_samples=len(federation.test.y),
        input_shape=tuple(int(size) for size in federation.test.x.shape[1:]),
        classes=len(federation.class_names),
        class_names=federation.class_names,
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
    )
    text = json.dumps(prepared.to_document(), indent=2) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
    return prepared


def _statistics(shards: Sequence[Shard]) -> tuple[Float64Array, Float64Array]:
    """Mean and deviation of each channel over all devices, from their sums alone; `(channels,)`."""
    channels = shards[0].x.shape[1]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for shard in shards:
        x = shard.x.astype(np.float32)
        axes = (0, *range(2, x.ndim))
        total += x.sum(axis=axes, dtype=np.float64)
        squares += np.square(x).sum(axis=axes, dtype=np.float64)
        count += x.size // channels
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return mean, np.where(deviation > 0, deviation, 1.0)


def _write(path: Path, shard: Shard, mean: Float64Array, deviation: Float64Array) -> None:
    columns = (-1, *(1 for _ in shard.x.shape[2:]))
    x = shard.x.astype(np.float32)
    x -= mean.astype(np.float32).reshape(columns)
    x /= deviation.astype(np.float32).reshape(columns)
    np.savez(path, x=x.astype(np.float16), y=shard.y)
