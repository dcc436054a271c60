"""Real trainer processes on made-up tasks."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_client.agent.process import ENVIRONMENT
from edge_client.calibration import Calibration
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.request import CalibrateRequest, Request, TrainRequest, to_json
from fedsparse.body import Bytes
from fedsparse.plan import Loss, Plan
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import random_mask
from fedsparse.sparsity.packing import encode_mask, mask_digest
from fedsparse.sparsity.values import encode_values
from fedsparse.stored import read_message, save_message
from fedsparse.types import Weights
from fedsparse.wire.codecs import F32, I8
from fedsparse.wire.messages import Part, Stage, Task, Update

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a trainer is asked to do."""

    plan: Plan
    density: float = 0.2
    batch_size: int = 32
    examples: int = 64
    holdout: float = 0.25
    epochs: int = 1
    evolve: bool = False
    up: str = F32
    down: str = F32
    learning_rate: float = 0.01
    power: float = 1.0
    setup: EngineSetup | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(max(1, round(self.density * tensor.size)) for tensor in self.plan.prunable)


def write_data(path: Path, plan: Plan, examples: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, *plan.input_shape), dtype=np.float32)
    y = rng.integers(0, plan.classes, examples)
    if plan.loss is not Loss.CROSS_ENTROPY:
        y = rng.random((examples, plan.classes), dtype=np.float32)
    np.savez(path, x=x, y=y)


def write_task(folder: Path, job: Job) -> TrainRequest:
    """Everything that a trainer of this job reads."""
    plan, rng = job.plan, np.random.default_rng(1)
    mask = random_mask(plan, job.kept, rng)
    weights = initial_weights(plan, job.kept, rng)
    kept = Weights(prunable=weights.prunable[mask], dense=weights.dense)
    values = encode_values(kept, job.down, job.kept)
    encoded = encode_mask(mask)
    parts = (
        Part(name="mask", codec=encoded.codec, size=len(encoded.data)),
        Part(name="values", codec=job.down, size=len(values)),
    )
    task = Task(
        job="job",
        round_id=1,
        attempt=0,
        stage=Stage.TRAIN,
        plan_digest=plan.digest,
        parts=parts,
        mask_digest=mask_digest(plan.digest, mask),
        level=job.density,
        seconds_left=600.0,
        epochs=job.epochs,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        momentum=0.9,
        evolve=job.evolve,
        prune_rate=0.25 if job.evolve else 0.0,
        evaluate=True,
        power=job.power,
        values_codec=job.up,
        error_feedback=job.up == I8,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    save_message(folder / "task.head", task, Bytes(encoded.data + values))
    (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    write_data(folder / "data.npz", plan, job.examples)
    return TrainRequest(
        task=str(folder / "task.head"),
        plan=str(folder / "plan.json"),
        masks=str(folder / "masks"),
        data=str(folder / "data.npz"),
        holdout=job.holdout,
        output=str(folder / "update.head"),
        setup=job.setup or EngineSetup(micro_batch=job.batch_size),
        agent_rss_bytes=0,
        residual=str(folder / "residual"),
        lost=str(folder / "update.residual"),
    )


def run_trainer(
    folder: Path,
    request: Request,
    *,
    cwd: Path = ROOT,
    address_bytes: int | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """`python -m edge_client.trainer` as the agent starts it; the system may refuse it memory."""

    def limit() -> None:
        if address_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (address_bytes, address_bytes))

    path = folder / "request.json"
    path.write_text(to_json(request), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "edge_client.trainer", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | ENVIRONMENT | environment,
        preexec_fn=limit,
    )


def train(folder: Path, job: Job) -> Update:
    """The update of a job that goes well."""
    request = write_task(folder, job)
    done = run_trainer(folder, request, **job.environment)
    assert done.returncode == 0, done.stderr
    message, _ = read_message(Path(request.output))
    assert isinstance(message, Update)
    return message


def calibrate(folder: Path, job: Job) -> Calibration:
    """What the trainer measures of a job's plan."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(job.plan.to_json(), encoding="utf-8")
    request = CalibrateRequest(
        plan=str(folder / "plan.json"),
        levels=(job.density,),
        kept=(job.kept,),
        batch_size=job.batch_size,
        output=str(folder / "calibration.json"),
        threads=1,
    )
    done = run_trainer(folder, request)
    assert done.returncode == 0, done.stderr
    return Calibration.from_json((folder / "calibration.json").read_bytes())
