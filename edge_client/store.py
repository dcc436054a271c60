"""What a device keeps on its disk; every file is written atomically.

plans/<digest>.json          the models it has seen
masks/<digest>.bits          packed mask bits in plan order
calibrations/<key>.json      measured speed of the training kernels
outbox/update.frame          an update that has no receipt yet
task/                        the task at hand: frame, request, what its trainer said
incoming/                    chunks of what is being received
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Plan

MASKS_KEPT: Final = 16


class Store:
    """A device's folder.

    Raises:
        ConfigError: the folder cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for name in ("plans", "masks", "calibrations", "outbox", "task"):
                (root / name).mkdir(parents=True, exist_ok=True)
                for unfinished in (root / name).glob(".*"):  # of a process that was killed
                    unfinished.unlink()
        except OSError as error:
            raise ConfigError(f"store {root}: cannot be created: {error}") from error
        if not os.access(root, os.W_OK):
            raise ConfigError(f"store {root}: not writable by this user")

    @property
    def outbox(self) -> Path:
        """The update that waits for its receipt."""
        return self.root / "outbox" / "update.frame"

    @property
    def task(self) -> Path:
        """The folder of the task at hand."""
        return self.root / "task"

    @property
    def masks(self) -> Path:
        """The folder of the masks."""
        return self.root / "masks"

    def plan_path(self, digest: str) -> Path:
        """Where the plan of this digest is, or would be."""
        return self.root / "plans" / f"{digest}.json"

    def load_plan(self, digest: str) -> Plan | None:
        """The plan of this digest; None where it is missing or damaged."""
        path = self.plan_path(digest)
        try:
            text = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(text).hexdigest() != digest:
            path.unlink(missing_ok=True)
            return None
        try:
            return Plan.from_json(text)
        except PlanError:  # kept by a build that could read it
            return None

    def save_plan(self, digest: str, text: bytes) -> Plan:
        """Check a plan and keep it; raises `PlanError` where it is not the one of this digest."""
        plan = Plan.from_json(text)
        if plan.digest != digest:
            raise PlanError(f"the plan that came is {plan.digest[:12]}, expected {digest[:12]}")
        write_durably(self.plan_path(digest), plan.to_json().encode())
        return plan

    def calibration_path(self, key: str) -> Path:
        """Where the calibration of this key is, or would be."""
        return self.root / "calibrations" / f"{key}.json"

    def held_masks(self) -> tuple[str, ...]:
        """Digests of the masks that are here, latest first."""
        files = [path for path in self.masks.glob("*.bits") if len(path.stem) == 64]
        files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in files[MASKS_KEPT:]:
            path.unlink(missing_ok=True)
        return tuple(path.stem for path in files[:MASKS_KEPT])
