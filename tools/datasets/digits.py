"""UCI handwritten digits, 8 x 8: the smallest data set, for quick runs."""

from __future__ import annotations

from importlib import resources
from typing import Final

import numpy as np

from tools.datasets.dataset import Federation, Request, Shard
from tools.datasets.dirichlet import dirichlet_shards

FILE: Final = "digits.csv.gz"
TEST_SHARE: Final = 0.2


class Digits:
    """1,797 digits; a fifth, drawn by the seed, is the test set; Dirichlet shards of the rest."""

    name = "digits"
    summary = "UCI handwritten digits, 1,797 images of 1 x 8 x 8, 10 classes; CC BY 4.0"

    def divide(self, request: Request) -> Federation:
        """Hold out the test set, divide the rest by classes."""
        packed = resources.files("tools.datasets") / "data" / FILE
        with resources.as_file(packed) as path:
            table = np.loadtxt(path, delimiter=",", dtype=np.float32)
        x, y = table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].astype(np.int64)
        order = np.random.default_rng([request.seed, 1]).permutation(len(y))
        held_out = round(TEST_SHARE * len(y))
        test, trained = np.sort(order[:held_out]), np.sort(order[held_out:])
        shards = dirichlet_shards(y[trained], request)
        return Federation(
            shards=tuple(
                Shard(holder=f"part {index}", x=x[trained[rows]], y=y[trained[rows]])
                for index, rows in enumerate(shards)
            ),
            test=Shard(holder="test", x=x[test], y=y[test]),
            class_names=tuple("0123456789"),
        )
