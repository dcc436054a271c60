"""Smartwatch exercises: the watch of one person is one device."""

from __future__ import annotations

from importlib import resources
from typing import Final

import numpy as np

from fedsparse.errors import DataError
from fedsparse.types import IntArray
from tools.datasets.dataset import Federation, Request, Shard

FILE: Final = "watch_windows.npz"
TEST_PEOPLE: Final = 2
CLASSES: Final = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")


class Watch:
    """Shoulder exercises: windows of 2 s from the accelerometer and gyroscope of a smartwatch.

    Ten people; two, drawn by the seed, are the test set and are on no device, so the test is of
    people never seen. The others have one device each, in the order of their numbers; with fewer
    devices than people, the last people take no part.

    Source: D. Burns et al. 2018, "Shoulder physiotherapy exercise recognition".
    """

    name = "watch"
    summary = "smartwatch exercises, 10 people, 4,677 windows of 6 x 100, 7 classes; BSD-3-Clause"

    def divide(self, request: Request) -> Federation:
        """One person a device, two people for the test."""
        with (resources.files("tools.datasets") / "data" / FILE).open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            x, y, person = arrays["x"].transpose(0, 2, 1), arrays["y"], arrays["s"]
        people = np.unique(person)
        most = len(people) - TEST_PEOPLE
        if request.devices > most:
            raise DataError(
                f"watch has one person for each of at most {most} devices, "
                f"{request.devices} were asked for; take digits, mnist or cifar10 for more"
            )
        rng = np.random.default_rng(request.seed)
        test = np.sort(rng.choice(people, TEST_PEOPLE, replace=False))
        trained = [one for one in people if one not in test][: request.devices]

        def shard(holder: str, rows: IntArray) -> Shard:
            return Shard(holder=holder, x=x[rows], y=y[rows].astype(np.int64))

        return Federation(
            shards=tuple(
                shard(f"person {one}", _some(np.flatnonzero(person == one), request.samples, rng))
                for one in trained
            ),
            test=shard(f"persons {test[0]} and {test[1]}", np.flatnonzero(np.isin(person, test))),
            class_names=CLASSES,
        )


def _some(rows: IntArray, most: int | None, rng: np.random.Generator) -> IntArray:
    if most is None or most >= len(rows):
        return rows
    return np.sort(rng.choice(rows, most, replace=False))
