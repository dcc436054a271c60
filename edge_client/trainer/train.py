"""One task: read mask, values and samples; train under the mask; write the update."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_client.data.samples import Samples, batches, load_samples, split_holdout
from edge_client.memory import peak_rss_bytes
from edge_client.runtime.engine import Engine
from edge_client.runtime.engines import Optimizer, open_engine
from edge_client.trainer.evaluation import evaluate
from edge_client.trainer.masks import MaskMissingError, receive_mask, save_mask
from edge_client.trainer.request import EXIT_MASK_MISSING, EXIT_OK, TrainRequest
from fedsparse.durable import write_durably
from fedsparse.errors import EngineError, RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import (
    F32,
    U32,
    decode_values,
    encode_counts,
    encode_mask,
    encode_values,
    mask_digest,
)
from fedsparse.types import BoolArray, Weights
from fedsparse.wire.headers import decode_message, encode_message, split_parts
from fedsparse.wire.messages import Part, Stage, Task, Update


@dataclass(slots=True)
class Progress:
    """What was measured while training."""

    losses: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    train_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The tensors of an update: the mask that they are under, and their encoded parts."""

    mask_digest: str
    parts: tuple[Part, ...] = ()
    body: bytes = b""


def run_task(request: TrainRequest) -> int:
    """Do the task in `request.frame`, and write the update to `request.output`.

    Returns:
        An exit code of edge_client/trainer/request.py.

    Raises:
        FedSparseError: bad data, a task that contradicts itself, training that diverged.
    """
    began = time.perf_counter()
    task, body = decode_message(Path(request.frame).read_bytes())
    if not isinstance(task, Task):
        raise RemoteProtocolError(f"expected a task, got {type(task).__name__}")
    plan = Plan.from_json(Path(request.plan).read_bytes())
    parts = split_parts(task.parts, body)
    try:
        mask = receive_mask(plan, task.mask_digest, parts.get("mask"), Path(request.masks))
    except MaskMissingError:
        return EXIT_MASK_MISSING
    if "values" not in parts:
        raise RemoteProtocolError("the task carries no values")
    samples = _load(request, plan)
    weights = decode_values(parts["values"][1], int(mask.sum()), plan.num_dense)
    engine = open_engine(
        plan,
        mask,
        weights,
        batch_size=task.batch_size,
        setup=request.setup,
        optimizer=Optimizer(momentum=task.momentum, weight_decay=task.weight_decay),
        graph=Path(request.graph) if request.graph else None,
        seed=_draw(task).getrandbits(32),
    )
    del weights, parts, body
    evaluation = evaluate(engine, plan.loss, samples) if task.evaluate else None
    progress = Progress()
    trained_mask = mask
    if task.stage is not Stage.EVALUATE:
        trained_mask = _train(engine, plan, mask, task, samples, progress)
    trained = engine.weights()
    del engine  # what is sent is encoded in the memory that it held
    result = _result(plan, task, mask, trained_mask, trained, Path(request.masks))
    message = Update(
        job=task.job,
        round_id=task.round_id,
        stage=task.stage,
        level=task.level,
        mask_digest=result.mask_digest,
        parts=result.parts,
        num_examples=len(samples.trained),
        evaluation=evaluation,
        loss=float(np.mean(progress.losses)) if progress.losses else 0.0,
        step_ms=1e3 * float(np.median(progress.step_s)) if progress.step_s else 0.0,
        train_s=progress.train_s,
        trainer_s=time.perf_counter() - began,
        peak_rss_bytes=peak_rss_bytes(),
        agent_rss_bytes=request.agent_rss_bytes,
    )
    write_durably(Path(request.output), encode_message(message, result.body))
    return EXIT_OK


def _load(request: TrainRequest, plan: Plan) -> Samples:
    x, y = load_samples(Path(request.data), plan)
    # The split must be the same in every round: what is held out is never trained on.
    trained, held_out = split_holdout(len(y), request.holdout, seed=0)
    return Samples(x=x, y=y, trained=trained, held_out=held_out)


def _draw(task: Task) -> random.Random:
    """Random numbers of their own for every device and round."""
    return random.Random(f"{task.seed}/{task.round_id}")  # noqa: S311 (a draw, not a secret)


def _train(
    engine: Engine,
    plan: Plan,
    mask: BoolArray,
    task: Task,
    samples: Samples,
    progress: Progress,
) -> BoolArray:
    """The epochs of a task; returns the mask at the end, which has moved if the task lets it."""
    rng = _draw(task)
    began = time.perf_counter()
    for epoch in range(task.epochs):
        evolve_after = _evolves_after(task, len(samples.trained))
        epoch_batches = batches(
            samples.x,
            samples.y,
            samples.trained,
            batch_size=task.batch_size,
            rng=rng,
            least=min(_smallest_batch(plan), task.batch_size),
        )
        before = len(progress.step_s)
        for x, y in epoch_batches:  # `enumerate` would hold a batch while the next is gathered
            started = time.perf_counter()
            loss = engine.train_step(x, y, learning_rate=task.learning_rate)
            progress.step_s.append(time.perf_counter() - started)
            if epoch == task.epochs - 1:
                progress.losses.append(loss)
            del x, y
            if len(progress.step_s) - before - 1 == evolve_after:
                rate = task.prune_rate * (1.0 - epoch / task.epochs)
                mask = _evolve(engine, plan, mask, rate, rng)
    progress.train_s = time.perf_counter() - began
    return mask


def _evolve(
    engine: Engine, plan: Plan, mask: BoolArray, rate: float, rng: random.Random
) -> BoolArray:
    """Drop and grow; the engine trains on under the new mask."""
    # Only tasks whose mask moves pay for it, and for numpy's generators.
    from fedsparse.sparsity.evolve import drop_and_grow

    draws = np.random.default_rng(rng.getrandbits(63))
    moved, kept = drop_and_grow(plan, mask, engine.weights().prunable, rate, draws)
    engine.replace_mask(moved, kept)
    return moved


def _smallest_batch(plan: Plan) -> int:
    """One sample has no variance, or little: batch-norm does without a last batch of one."""
    return 2 if any(node.operator.normalises_batch for node in plan.nodes) else 1


def _evolves_after(task: Task, num_examples: int) -> int:
    """The step after which the mask moves in an epoch; -1 for none.

    As in the reference: once an epoch, in its middle, so that what has grown is trained.
    """
    steps = -(-num_examples // task.batch_size)
    return (steps - 1) // 2 if task.evolve else -1


def _result(
    plan: Plan,
    task: Task,
    received: BoolArray,
    mask: BoolArray,
    weights: Weights,
    masks: Path,
) -> Result:
    """What goes back, by the stage and by whether the mask evolved."""
    if task.stage is Stage.EVALUATE:
        return Result(mask_digest=task.mask_digest)
    if task.stage is Stage.SENSE:
        data = encode_counts(counts_of(plan, mask))
        part = Part(name="layers", codec=U32, size=len(data))
        return Result(mask_digest=task.mask_digest, parts=(part,), body=data)
    if not (np.isfinite(weights.prunable).all() and np.isfinite(weights.dense).all()):
        raise EngineError("training diverged: weights are not finite; lower the learning rate")
    encoded = encode_mask(mask, received) if task.evolve else None
    values = encode_values(weights)
    part = Part(name="values", codec=F32, size=len(values))
    if encoded is None:
        return Result(mask_digest=task.mask_digest, parts=(part,), body=values)
    base = task.mask_digest if encoded.base else ""
    change = Part(name="mask", codec=encoded.codec, size=len(encoded.data), base=base)
    digest = mask_digest(plan.digest, mask)
    save_mask(masks, digest, mask)
    return Result(mask_digest=digest, parts=(change, part), body=encoded.data + values)
