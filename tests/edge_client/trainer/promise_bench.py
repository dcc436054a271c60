"""Real trainers under real memory limits: is what a device accepts what it can do?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from real_groups import require_groups
from trainer_runs import Job, run_trainer, write_task

from edge_client.agent.choice import CalibrationMissing, Chooser
from edge_client.agent.ledger import Ledger
from edge_client.budget.policy_file import PolicyFile
from edge_client.config import BudgetConfig, ClientConfig, DataConfig
from edge_client.emulation.confine import confine
from edge_client.emulation.place import Place
from edge_client.emulation.report import Resource
from edge_client.host import RealHost
from edge_client.store import Store
from fedsparse.stored import BODY, HEAD
from fedsparse.wire.headers import encode_message
from fedsparse.wire.messages import Offer, Stage
from tools.demo.toml_writer import to_toml

MIB = 2**20
HERE = Path(__file__).parent
DEADLINE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of one offer under one limit."""

    limit_bytes: int
    result: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.result["level"] is not None

    @property
    def survived(self) -> bool:
        return self.result.get("failure") == ""

    def line(self) -> str:
        result = self.result
        return (
            f"limit {self.limit_bytes / MIB:6.1f} MiB: level {result['level']}, micro-batches of "
            f"{result['micro_batch']}, predicted {result['predicted_bytes'] / MIB:.1f} of "
            f"{result['budget_bytes'] / MIB:.1f} MiB, trained: {self.survived} "
            f"({result.get('failure') or 'well'})"
        )


class Device:
    """A device with its store, a plan that it has calibrated, and a task of each level."""

    def __init__(self, folder: Path, job: Job, levels: Sequence[float]) -> None:
        jobs = {level: replace(job, density=level) for level in levels}
        for level, one in jobs.items():
            request = write_task(folder / f"made-{level:g}", one)
            for suffix in (HEAD, BODY):
                made = Path(request.task).with_suffix(suffix)
                made.rename(folder / f"task-{round(1000 * level)}{suffix}")
        data = folder / f"made-{levels[0]:g}" / "data.npz"
        self.folder = folder
        self.config = ClientConfig(
            device="d",
            site="s",
            store=folder / "store",
            data=DataConfig(path=data, holdout=job.holdout),
            budget=BudgetConfig(memory_fraction=1.0),
        )
        (folder / "client.toml").write_text(to_toml(self.config), encoding="utf-8")
        self.offer = Offer(
            job="job",
            round_id=1,
            attempt=0,
            stage=Stage.TRAIN,
            plan_digest=job.plan.digest,
            levels=tuple(levels),
            mask_digests=("",) * len(levels),
            kept=tuple(one.kept for one in jobs.values()),
            batch_size=job.batch_size,
            epochs=job.epochs,
            seconds_left=DEADLINE_S,
            evolve=job.evolve,
            probe=job.power != 1.0,
        )
        (folder / "offer.frame").write_bytes(encode_message(self.offer))
        store = Store(self.config.store)
        store.save_plan(job.plan.digest, job.plan.to_json().encode())
        self._calibrate(store)

    def _calibrate(self, store: Store) -> None:
        chooser = Chooser(
            config=self.config,
            store=store,
            host=RealHost(),
            policy=PolicyFile(None),
            ledger=Ledger(store),
        )
        missing = chooser.choose(self.offer)
        assert isinstance(missing, CalibrationMissing)
        done = run_trainer(self.folder, missing.request)
        assert done.returncode == 0, done.stderr

    def attempt(self, limit_bytes: int, mode: str = "free") -> Trial:
        """One offer, and its task, in a process that may use so much memory.

        Args:
            limit_bytes: for agent and trainer together.
            mode: `decide`, `free` or `forced` (promised_task.py).
        """
        self.forget()
        with confine(memory=limit_bytes) as place:
            require_groups(place, Resource.MEMORY)
            result = self.run(place, mode)
        return Trial(limit_bytes=limit_bytes, result=result)

    def run(self, place: Place, mode: str = "free") -> dict[str, Any]:
        """One offer, and its task, in a process that a place holds to some limit."""
        command = [sys.executable, str(HERE / "promised_task.py"), str(self.folder), mode]
        done = subprocess.run(
            place.command(command),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(HERE.parents[2])},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return dict(json.loads(done.stdout))

    def forget(self) -> None:
        """As on the first day: no level is held, nothing was learnt."""
        (self.config.store / "level.json").unlink(missing_ok=True)
        for path in (self.config.store / "calibrations").glob("*.learnt"):
            path.unlink()

    def forget_speed(self) -> None:
        """As before the first offer of this plan: its kernels were never timed."""
        for path in (self.config.store / "calibrations").glob("*.json"):
            path.unlink()

    def edge(self, *, low: int, high: int) -> Trial:
        """The smallest limit at which an offer is accepted, to half a MiB or so, and its task."""
        while high - low > MIB // 2:
            middle = (low + high) // 2
            if self.attempt(middle, "decide").accepted:
                high = middle
            else:
                low = middle
        while not (trial := self.attempt(high)).accepted:  # what the kernel counts wavers a little
            high += MIB // 4
        return trial
