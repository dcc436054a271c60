"""The samples of all clients of a split, prepared once and shared by the runs that need them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedsparse.errors import DataError
from tools.datasets.prepare import DESCRIPTION, prepare
from tools.simulation.lock import in_turn
from tools.simulation.spec import RunSpec

LOCK: Final = ".lock"
PREPARING: Final = ".preparing-"  # and the name of the split


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Files of one split: an `.npz` a client, and one of the test set."""

    clients: tuple[Path, ...]
    test: Path

    def damaged(self, reason: object) -> DataError:
        """What to raise where one of the files cannot be used."""
        return _damaged(self.test.parent, reason)


def open_split(spec: RunSpec, folder: Path) -> Split:
    """The split of a run, below `folder`; made if it is not there.

    Several processes may ask for the same at once: one makes it, the others wait.

    Raises:
        DataError: the data cannot be fetched, not divided so, not read, or not taken by the plan.
    """
    kept = folder / spec.data_key
    if not kept.exists():
        with in_turn(folder / LOCK):
            if not kept.exists():
                _prepare(spec, kept)
    return _read(spec, kept)


def _prepare(spec: RunSpec, kept: Path) -> None:
    """Make a split whole before it gets its name; what a kill left of others is removed."""
    for left in kept.parent.glob(f"{PREPARING}*"):
        shutil.rmtree(left)
    fresh = kept.with_name(f"{PREPARING}{kept.name}")
    try:
        prepare(
            spec.dataset,
            fresh,
            devices=spec.clients,
            seed=spec.seed,
            alpha=spec.alpha,
            samples=spec.samples,
        )
        fresh.rename(kept)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read(spec: RunSpec, kept: Path) -> Split:
    try:
        description = json.loads((kept / DESCRIPTION).read_text(encoding="utf-8"))
        split = _split(description, kept)
        shape = tuple(description["input_shape"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{DESCRIPTION}: {type(error).__name__}: {error}"
        raise _damaged(kept, reason) from error
    for path in (*split.clients, split.test):
        if not path.is_file():
            raise split.damaged(f"no file {path.name}")
    if len(split.clients) != spec.clients:
        raise split.damaged(f"{len(split.clients)} clients")
    if shape != (wanted := spec.load_plan().input_shape):
        raise DataError(f"samples of {spec.dataset} are {shape}, {spec.plan} takes {wanted}")
    return split


def _split(description: dict[str, Any], kept: Path) -> Split:
    return Split(
        clients=tuple(kept / name for name in description["devices"]),
        test=kept / description["test"],
    )


def _damaged(kept: Path, reason: object) -> DataError:
    return DataError(f"{kept} is damaged ({reason}): remove it, and it is prepared again")
