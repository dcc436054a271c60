"""Every data set by its name."""

from __future__ import annotations

import difflib
from typing import Final

from fedsparse.errors import DataError
from tools.datasets.cifar10 import Cifar10
from tools.datasets.dataset import Dataset
from tools.datasets.digits import Digits
from tools.datasets.mnist import Mnist
from tools.datasets.watch import Watch

_ALL: Final[tuple[Dataset, ...]] = (Watch(), Digits(), Mnist(), Cifar10())
DATASETS: Final[dict[str, Dataset]] = {dataset.name: dataset for dataset in _ALL}


def find_dataset(name: str) -> Dataset:
    """The data set called `name`.

    Raises:
        DataError: there is none; the nearest name is given.
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(DATASETS)}"
    raise DataError(f"unknown data set '{name}'; {hint}")
