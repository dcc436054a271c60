"""The samples of all clients of a split, prepared once and shared by the runs that need them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.datasets.prepare import DESCRIPTION, prepare
from tools.simulation.spec import RunSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Files of one split: an `.npz` a client, and one of the test set."""

    clients: tuple[Path, ...]
    test: Path


def open_split(spec: RunSpec, folder: Path) -> Split:
    """The split of a run, below `folder`; made if it is not there.

    Several processes may ask for the same at once: each makes its own, one is kept.

    Raises:
        DataError: the data cannot be fetched, or not divided so.
    """
    kept = folder / spec.data_key
    if not (kept / DESCRIPTION).exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".preparing-", dir=folder))
        try:
            prepare(
                spec.dataset,
                fresh,
                devices=spec.clients,
                seed=spec.seed,
                alpha=spec.alpha,
                samples=spec.samples,
            )
            try:
                os.rename(fresh, kept)  # noqa: PTH104 (fails where a whole one is there)
            except OSError:
                if not (kept / DESCRIPTION).exists():
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    description = json.loads((kept / DESCRIPTION).read_text(encoding="utf-8"))
    return Split(
        clients=tuple(kept / name for name in description["devices"]),
        test=kept / description["test"],
    )
