"""The message that gives a device its work, with no byte that the device has already."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from aggregator.job import JobConfig
from aggregator.model import Encoding, GlobalModel
from fedsparse.body import Body, Bytes, joined
from fedsparse.methods.method import Method
from fedsparse.methods.schedule import learning_rate
from fedsparse.plan import Plan
from fedsparse.sparsity.packing import encode_mask
from fedsparse.wire.codecs import F32, I8
from fedsparse.wire.messages import Part, Stage, Task

PLAN_CODEC = "json"
GRAPH_CODEC = "onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What all tasks of a round have in common.

    Attributes:
        round_id, attempt, stage: as offered.
        run: of the job, by number.
        repeats: how often it ended without an update before.
        index: the training round, counted from 0 as the methods do.
        evaluate: whether devices score the model on their hold-outs.
    """

    round_id: int
    attempt: int
    repeats: int
    stage: Stage
    index: int
    evaluate: bool
    run: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A device with a task: at which level, and which masks it holds already."""

    device: str
    level: float
    held: tuple[str, ...]


def make_task(
    job: JobConfig, model: GlobalModel, now: Round, to: Addressee, seconds_left: float
) -> tuple[Task, Body]:
    """The task of a device and its body: the mask where the device lacks it, then the values.

    Args:
        job, model, now: what is trained.
        to: who is to train it.
        seconds_left: until the round closes.
    """
    digest = model.mask_for(to.device, to.level, now.stage)
    parts, mask = _mask_part(model, digest, to.held)
    encoding = encoding_of(job, now)
    values = model.values_under(digest, to.level, encoding)
    parts.append(Part(name="values", codec=encoding.codec, size=values.size))
    training = job.training
    # Where saliency is measured nothing is trained.
    plain = now.stage is Stage.SENSE and model.method.salient
    task = Task(
        job=job.name,
        run=now.run,
        round_id=now.round_id,
        attempt=now.attempt,
        stage=now.stage,
        plan_digest=model.plan.digest,
        parts=tuple(parts),
        mask_digest=digest,
        level=to.level,
        seconds_left=seconds_left,
        seed=_seed(job.seed, to.device, now.repeats),
        epochs=stage_epochs(job, model.method, now.stage),
        batch_size=training.batch_size,
        learning_rate=learning_rate(
            now.index, job.rounds, training.learning_rate, training.learning_rate_end
        ),
        momentum=0.0 if plain else training.momentum,
        weight_decay=0.0 if plain else training.weight_decay,
        evolve=moves_masks(model.method, now),
        prune_rate=model.method.prune_rate(now.index),
        evaluate=now.evaluate,
        power=model.method.power if now.stage is Stage.TRAIN else 1.0,
        values_codec=job.values.up,
        error_feedback=job.values.error_feedback and job.values.up == I8,
    )
    return task, joined(Bytes(mask), values)


def stage_epochs(job: JobConfig, method: Method, stage: Stage) -> int:
    """How often a device goes through its samples; saliency takes a single batch."""
    if stage is not Stage.SENSE:
        return job.training.epochs
    return 1 if method.salient else job.method.sense_epochs


def moves_masks(method: Method, now: Round) -> bool:
    """Whether devices drop and grow while they train, in stage 1 or where the method says so."""
    if now.stage is Stage.SENSE:
        return not method.salient
    return now.stage is Stage.TRAIN and method.evolves(now.index)


def encoding_of(job: JobConfig, now: Round) -> Encoding:
    """How the values of a round's tasks are encoded; a last round scores the very model."""
    return Encoding(
        codec=F32 if now.stage is Stage.EVALUATE else job.values.down,
        seed=f"{job.seed}/{now.round_id}",
    )


def up_codec(job: JobConfig, method: Method, now: Round) -> str:
    """How the values of a round's updates are encoded; empty where they hold none."""
    if now.stage is Stage.TRAIN:
        return job.values.up
    return F32 if now.stage is Stage.SENSE and method.salient else ""


def plan_task(job: JobConfig, plan: Plan, now: Round, graph: bytes = b"") -> tuple[Task, Body]:
    """The plan, and its training graph where it has one, for a device that lacks either."""
    text = plan.to_json().encode()
    parts = [Part(name="plan", codec=PLAN_CODEC, size=len(text))]
    if graph:
        parts.append(Part(name="graph", codec=GRAPH_CODEC, size=len(graph)))
    task = Task(
        job=job.name,
        run=now.run,
        round_id=now.round_id,
        attempt=now.attempt,
        stage=now.stage,
        plan_digest=plan.digest,
        parts=tuple(parts),
    )
    return task, Bytes(text + graph)


def _seed(seed: int, device: str, repeats: int) -> int:
    """A seed of its own for each device: they are not to draw the same batches, nor grow alike.

    A round that nobody finished is tried with other draws: training may have diverged by them.
    """
    digest = hashlib.sha256(f"{seed}/{device}/{repeats}".encode()).digest()
    return int.from_bytes(digest[:7], "little")


def _mask_part(model: GlobalModel, digest: str, held: tuple[str, ...]) -> tuple[list[Part], bytes]:
    """The mask, as a change of one that the device holds where it can be; nothing if it has it."""
    if digest in held:
        return [], b""
    mask = model.known_mask(digest)
    if mask is None:
        raise KeyError(digest)
    bases = ((known, model.known_mask(known)) for known in held)
    base_digest, base = next(((d, m) for d, m in bases if m is not None), ("", None))
    encoded = encode_mask(mask, base)
    part = Part(
        name="mask",
        codec=encoded.codec,
        size=len(encoded.data),
        base=base_digest if encoded.base else "",
    )
    return [part], encoded.data
