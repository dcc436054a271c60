"""A simulation's moment on disk, from which it goes on: whole or not there at all.

A snapshot is taken between two rounds. What a killed process did after it is simulated again, to
the same bit; that costs less than a durable write for each client would. Files are not waited for,
so a power cut may damage some: `state.json`, which is written last, has the digest of each.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aggregator.checkpoint import CHECKPOINTS, generations
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from tools.simulation.spec import RECORDS

STATE: Final = "state.json"
OWN_MASKS: Final = "own-masks"
MASKS: Final = "masks"
RESIDUALS: Final = "residuals"
SHELF: Final = "shelf"
FRESH: Final = "snapshot.new"
OLD: Final = "snapshot.old"
FILES: Final = (CHECKPOINTS, OWN_MASKS, SHELF, MASKS, RESIDUALS)
# What file systems say that have no hard links, or have too many of a file.
NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


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
        return bool(generations(self.live))

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
        fresh = self.kept.with_name(FRESH)
        old = self.kept.with_name(OLD)
        for left in (fresh, old):  # of a kill
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir()
        for name in FILES:
            _link(self.live / name, fresh / name)
        shutil.copyfile(self.records, fresh / RECORDS)
        moment = {"state": state, "files": _digests(fresh)}
        sealed = {"digest": _digest_of(moment), "moment": moment}
        write_durably(fresh / STATE, json.dumps(sealed).encode())
        if self.kept.exists():
            self.kept.replace(old)
        fresh.replace(self.kept)
        shutil.rmtree(old, ignore_errors=True)

    def restore(self) -> dict[str, Any] | None:
        """Make `live` what the snapshot holds; its state, or None where there is no snapshot.

        Raises:
            ConfigError: the snapshot is damaged; nothing is changed then.
        """
        old = self.kept.with_name(OLD)
        if not self.kept.exists() and old.exists():  # killed between two renames
            old.replace(self.kept)
        state = self._read() if self.kept.exists() else None
        shutil.rmtree(self.live, ignore_errors=True)
        for folder in (self.masks, self.residuals):
            folder.mkdir(parents=True)
        if state is None:
            return None
        for name in FILES:
            _link(self.kept / name, self.live / name)
        write_durably(self.records, (self.kept / RECORDS).read_bytes())
        return state

    def _read(self) -> dict[str, Any]:
        """The state, once every file is found to be what was saved."""
        try:
            sealed = json.loads((self.kept / STATE).read_text(encoding="utf-8"))
            moment = sealed["moment"]
            if sealed["digest"] != _digest_of(moment):
                raise ValueError("another digest")
            state: dict[str, Any] = moment["state"]
            files, found = moment["files"], _digests(self.kept)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._damaged(f"{STATE}: {type(error).__name__}: {error}") from error
        for name in sorted(files.keys() | found.keys()):
            if files.get(name) != found.get(name):
                raise self._damaged(f"{name} is not what was saved")
        return state

    def _damaged(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{self.kept} is damaged ({reason}): remove {self.kept.parent} to run it afresh"
        )

    def clear(self) -> None:
        """Remove them: the run is done."""
        for name in (FRESH, OLD):
            shutil.rmtree(self.kept.with_name(name), ignore_errors=True)
        for folder in (self.live, self.kept):
            shutil.rmtree(folder, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a snapshot but `state.json`, by its path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path != folder / STATE
    }


def _digest_of(moment: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(moment).encode()).hexdigest()


def _link(source: Path, target: Path) -> None:
    """The same files under another name: all are replaced as a whole, none is written into."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for path in source.iterdir():
            _link(path, target / path.name)
    elif source.exists():
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            shutil.copy2(source, target)  # with its time: the masks given out have an order
