"""What a device keeps on its disk; every file is written atomically.

plans/<digest>.json          the models it has seen
plans/<digest>.graph         the training graphs of those that are one
masks/<digest>.bits          packed mask bits in plan order
calibrations/<key>.json      measured speed of the training kernels
calibrations/<key>.learnt    what tasks really took, against forecasts from it
level.json                   the level taken before, and what may raise it
decision.json                the last answer to an offer, with the figures behind it
outbox/update.head, .body    an update that has no receipt yet
outbox/update.residual       what its encoding lost
residual                     what the encoding of accepted updates lost, for the next one
profile.json                 what `edge-client profile` measured of the device
link.json                    how fast recent transfers were
task/task.head, .body        the task at hand; beside it what its trainer is to do
incoming/                    what is being received
.lock                        held by the process that works with all this (edge_client/lock.py)
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from edge_client.probe.link import FILE as LINK_FILE
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Plan
from fedsparse.stored import remove_message

MASKS_KEPT: Final = 16


def decision_path(root: Path) -> Path:
    """Where a device with this store keeps its last decision."""
    return root / "decision.json"


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
        return self.root / "outbox" / "update.head"

    @property
    def lost(self) -> Path:
        """What the encoding of the update in the outbox lost; not every one has it."""
        return self.root / "outbox" / "update.residual"

    @property
    def residual(self) -> Path:
        """What the encoding of accepted updates lost (edge_client/trainer/residual.py)."""
        return self.root / "residual"

    def keep_lost(self) -> None:
        """The update in the outbox was accepted: what it lost is for the next one to make good."""
        if self.lost.exists():
            self.lost.replace(self.residual)

    def clear_outbox(self) -> None:
        """The update there is done with, one way or another."""
        remove_message(self.outbox)
        self.lost.unlink(missing_ok=True)

    @property
    def link(self) -> Path:
        """How fast recent transfers were (edge_client/probe/link.py)."""
        return self.root / LINK_FILE

    @property
    def incoming(self) -> Path:
        """The folder of what is being received."""
        return self.root / "incoming"

    @property
    def task(self) -> Path:
        """The folder of the task at hand."""
        return self.root / "task"

    @property
    def task_head(self) -> Path:
        """The task at hand (fedsparse/stored.py)."""
        return self.task / "task.head"

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
            plan = Plan.from_json(text)
        except PlanError:  # kept by a build that could read it
            return None
        return plan if not plan.graph or self._has_graph(plan.graph) else None

    def graph_path(self, plan: Plan) -> Path | None:
        """Where the training graph of a plan is, or would be; None where it has none."""
        return self.root / "plans" / f"{plan.graph}.graph" if plan.graph else None

    def save_plan(self, digest: str, text: bytes, graph: bytes = b"") -> Plan:
        """Check a plan and keep it, with its training graph where it has one.

        Raises:
            PlanError: plan or graph are not those of this digest.
        """
        plan = Plan.from_json(text)
        if plan.digest != digest:
            raise PlanError(f"the plan that came is {plan.digest[:12]}, expected {digest[:12]}")
        if (path := self.graph_path(plan)) is not None:
            if (found := hashlib.sha256(graph).hexdigest()) != plan.graph:
                raise PlanError(
                    f"the training graph that came is {found[:12]}, expected {plan.graph[:12]}"
                )
            write_durably(path, graph)
        write_durably(self.plan_path(digest), plan.to_json().encode())
        return plan

    def _has_graph(self, digest: str) -> bool:
        path = self.root / "plans" / f"{digest}.graph"
        try:
            data = path.read_bytes()
        except OSError:
            return False
        if hashlib.sha256(data).hexdigest() == digest:
            return True
        path.unlink(missing_ok=True)
        return False

    def calibration_path(self, key: str) -> Path:
        """Where the calibration of this key is, or would be."""
        return self.root / "calibrations" / f"{key}.json"

    def correction_path(self, key: str) -> Path:
        """Where what was learnt of this calibration is, or would be."""
        return self.root / "calibrations" / f"{key}.learnt"

    @property
    def hold(self) -> Path:
        """The level taken before (edge_client/budget/hysteresis.py)."""
        return self.root / "level.json"

    @property
    def decision(self) -> Path:
        """The last decision (edge_client/budget/document.py)."""
        return decision_path(self.root)

    def held_masks(self) -> tuple[str, ...]:
        """Digests of the masks that are here, latest first."""
        files = [path for path in self.masks.glob("*.bits") if len(path.stem) == 64]
        files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in files[MASKS_KEPT:]:
            path.unlink(missing_ok=True)
        return tuple(path.stem for path in files[:MASKS_KEPT])
