"""A simulation's moment on disk, from which it goes on: whole or not there at all.

A snapshot is taken between two rounds. What a killed process did after it is simulated again, to
the same bit; that costs less than a durable write for each client would.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aggregator.checkpoint import CHECKPOINT
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError

STATE: Final = "state.json"
OWN_MASKS: Final = "own-masks"
MASKS: Final = "masks"
RECORDS: Final = "rounds.jsonl"
RESIDUALS: Final = "residuals"
SHELF: Final = "shelf"
FILES: Final = (CHECKPOINT, OWN_MASKS, SHELF, MASKS, RESIDUALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The folders of a run.

    Attributes:
        live: what the aggregator and the clients are writing at the moment.
        kept: the last snapshot.
    """

    live: Path
    kept: Path

    @classmethod
    def of(cls, folder: Path) -> Workspace:
        """Those below a run's folder."""
        return cls(live=folder / "live", kept=folder / "snapshot")

    @property
    def records(self) -> Path:
        """What was recorded of each round."""
        return self.live.with_name(RECORDS)

    @property
    def masks(self) -> Path:
        """Masks that clients hold."""
        return self.live / MASKS

    @property
    def residuals(self) -> Path:
        """What the encoding of the clients' updates lost."""
        return self.live / RESIDUALS

    @property
    def has_checkpoint(self) -> bool:
        """Whether the aggregator has a state to go on from."""
        return (self.live / CHECKPOINT).exists()

    def save(self, state: dict[str, Any], held: Iterable[str]) -> None:
        """Replace the snapshot.

        Args:
            state: of everything that is not a file, for JSON.
            held: digests of the masks that clients hold; others are removed.
        """
        wanted = set(held)
        for path in self.masks.glob("*.bits"):
            if path.stem not in wanted:
                path.unlink()
        fresh = self.kept.with_name("snapshot.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name in FILES:
            _link(self.live / name, fresh / name)
        shutil.copyfile(self.records, fresh / RECORDS)
        (fresh / STATE).write_text(json.dumps(state), encoding="utf-8")
        old = self.kept.with_name("snapshot.old")
        if self.kept.exists():
            self.kept.replace(old)
        fresh.replace(self.kept)
        shutil.rmtree(old, ignore_errors=True)

    def restore(self) -> dict[str, Any] | None:
        """Make `live` what the snapshot holds; its state, or None where there is no snapshot.

        Raises:
            ConfigError: the snapshot is damaged.
        """
        old = self.kept.with_name("snapshot.old")
        if not self.kept.exists() and old.exists():  # killed between two renames
            old.replace(self.kept)
        shutil.rmtree(self.live, ignore_errors=True)
        for folder in (self.masks, self.residuals):
            folder.mkdir(parents=True)
        if not self.kept.exists():
            return None
        damaged = f"remove {self.kept.parent} to run it afresh"
        try:
            state: dict[str, Any] = json.loads((self.kept / STATE).read_text(encoding="utf-8"))
            records = (self.kept / RECORDS).read_bytes()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.kept} is damaged ({error}): {damaged}") from error
        if not (self.kept / CHECKPOINT).exists() or records.count(b"\n") != state.get("records"):
            raise ConfigError(f"{self.kept} is not whole: {damaged}")
        for name in FILES:
            _link(self.kept / name, self.live / name)
        write_durably(self.records, records)
        return state

    def clear(self) -> None:
        """Remove both: the run is done."""
        for folder in (self.live, self.kept):
            shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """The same files under another name: all are replaced as a whole, none is written into."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for path in source.iterdir():
            os.link(path, target / path.name)
    elif source.exists():
        os.link(source, target)
