"""The work of a task, without files: epochs under a mask, and what goes back to the gateway."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edge_client.data.samples import Batch, Samples, batches
from edge_client.runtime.engine import Engine
from edge_client.trainer.evaluation import evaluate
from edge_client.trainer.saliency import measure_saliency
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import U32, encode_counts, encode_mask, mask_digest
from fedsparse.sparsity.values import carry_over, decode_values, encode_values
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.codecs import F32, I8
from fedsparse.wire.messages import Evaluation, Part, Stage, Task, Update


@dataclass(slots=True)
class Progress:
    """What was measured while training."""

    losses: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    train_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What became of the model.

    Attributes:
        mask: `(num_prunable,)`; the task's own unless it let it evolve.
        weights: prunable `(nnz,)` under it, dense `(num_dense,)`; where the task asks for saliency,
            that of the prunable weights, and nothing dense.
        evaluation: of the model as it was received.
        progress: of the training.
    """

    mask: BoolArray
    weights: Weights
    evaluation: Evaluation | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a task brought: the mask `(num_prunable,)`, and the bytes of its part `values`.

    They are asked for once more where only their change is sent; to hold them while the model
    trains would take memory.
    """

    mask: BoolArray
    values: Callable[[], bytes | memoryview]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """What the encoding of an update lost: `(nnz,)` values under a mask `(num_prunable,)`.

    To be added to the next change, once that update was accepted. Of an update that was not, none
    is kept: nobody saw what it lost, and what was to be added before still is.
    """

    mask: BoolArray
    values: Float32Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The tensors of an update: the mask that they are under, and their encoded parts.

    Attributes:
        residual: what the encoding lost, where the task wants it kept.
    """

    mask_digest: str
    parts: tuple[Part, ...] = ()
    body: bytes = b""
    residual: Residual | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a task took of the device, as the update reports it."""

    trainer_s: float = 0.0
    peak_rss_bytes: int = 0
    agent_rss_bytes: int = 0


def draws_of(task: Task) -> random.Random:
    """Random numbers of their own for every device and round."""
    return random.Random(f"{task.seed}/{task.round_id}")  # noqa: S311 (a draw, not a secret)


def engine_seed(task: Task) -> int:
    """Of an engine's dropout."""
    return draws_of(task).getrandbits(32)


def train(engine: Engine, plan: Plan, task: Task, mask: BoolArray, samples: Samples) -> Trained:
    """Score the model where the task asks for it, then train its epochs, or measure saliency.

    Args:
        engine: holds the task's values under `mask`; changed.
        plan, task: what is trained, and how.
        mask: `(num_prunable,)` of the task; not changed.
        samples: the device's own.

    Raises:
        EngineError: training diverged.
    """
    evaluation = evaluate(engine, plan.loss, samples) if task.evaluate else None
    progress = Progress()
    if task.asks_saliency:
        weights = _saliency(engine, plan, task, samples, progress)
        return Trained(mask=mask, weights=weights, evaluation=evaluation, progress=progress)
    if task.stage is not Stage.EVALUATE:
        mask = _epochs(engine, plan, mask, task, samples, progress)
    return Trained(mask=mask, weights=engine.weights(), evaluation=evaluation, progress=progress)


def keeps_residual(task: Task) -> bool:
    """Whether the device is to keep what the encoding of its update loses."""
    return task.error_feedback and task.values_codec == I8 and task.stage is Stage.TRAIN


def encode_result(
    plan: Plan, task: Task, received: Received, trained: Trained, residual: Residual | None = None
) -> Result:
    """What goes back, by the stage and by whether the mask evolved.

    Args:
        plan, task: what was trained.
        received: what the task brought.
        trained: what became of it.
        residual: of the last update that was accepted, where `keeps_residual`.

    Raises:
        EngineError: the weights are not finite.
        LocalProtocolError: a value is too large for the task's codec.
        RemoteProtocolError: there is no such codec.
    """
    if task.stage is Stage.EVALUATE:
        return Result(mask_digest=task.mask_digest)
    mask, weights = trained.mask, trained.weights
    if task.stage is Stage.SENSE and not task.asks_saliency:
        data = encode_counts(counts_of(plan, mask))
        part = Part(name="layers", codec=U32, size=len(data))
        return Result(mask_digest=task.mask_digest, parts=(part,), body=data)
    if not (np.isfinite(weights.prunable).all() and np.isfinite(weights.dense).all()):
        raise EngineError("training diverged: weights are not finite; lower the learning rate")
    part, values, lost = _encode_values(plan, task, received, trained, residual)
    encoded = encode_mask(mask, received.mask) if task.evolve else None
    if encoded is None:
        return Result(mask_digest=task.mask_digest, parts=(part,), body=values, residual=lost)
    base = task.mask_digest if encoded.base else ""
    change = Part(name="mask", codec=encoded.codec, size=len(encoded.data), base=base)
    return Result(
        mask_digest=mask_digest(plan.digest, mask),
        parts=(change, part),
        body=encoded.data + values,
        residual=lost,
    )


def make_update(
    task: Task, result: Result, trained: Trained, num_examples: int, footprint: Footprint
) -> Update:
    """The message for the gateway; its body is `result.body`."""
    progress = trained.progress
    return Update(
        job=task.job,
        run=task.run,
        round_id=task.round_id,
        stage=task.stage,
        level=task.level,
        mask_digest=result.mask_digest,
        parts=result.parts,
        num_examples=num_examples,
        evaluation=trained.evaluation,
        loss=float(np.mean(progress.losses)) if progress.losses else 0.0,
        step_ms=1e3 * float(np.median(progress.step_s)) if progress.step_s else 0.0,
        train_s=progress.train_s,
        trainer_s=footprint.trainer_s,
        peak_rss_bytes=footprint.peak_rss_bytes,
        agent_rss_bytes=footprint.agent_rss_bytes,
    )


def _encode_values(
    plan: Plan, task: Task, received: Received, trained: Trained, residual: Residual | None
) -> tuple[Part, bytes, Residual | None]:
    """The part `values`, its bytes, and what they lost.

    Where values are rounded, on either way, the kept ones go back as their change: it is smaller
    than they are, and the gateway adds it to the values that it has not rounded. Saliency, of which
    there is one a job, goes back as it is.
    """
    counts = counts_of(plan, trained.mask)
    codec = next(part.codec for part in task.parts if part.name == "values")
    if task.asks_saliency or codec == task.values_codec == F32:
        data = encode_values(trained.weights, F32, counts)
        return Part(name="values", codec=F32, size=len(data)), data, None
    sent = received.values()
    before = decode_values(codec, sent, counts_of(plan, received.mask), plan.num_dense).prunable
    change = trained.weights.prunable - carry_over(before, received.mask, trained.mask)
    if residual is not None:
        change += carry_over(residual.values, residual.mask, trained.mask)
    draws = random.Random(f"{task.seed}/{task.round_id}/values")  # noqa: S311
    weights = Weights(prunable=change, dense=trained.weights.dense)
    data = encode_values(weights, task.values_codec, counts, draws.randbytes)
    base = hashlib.sha256(sent).hexdigest()
    part = Part(name="values", codec=task.values_codec, size=len(data), base=base)
    if not keeps_residual(task):
        return part, data, None
    change -= decode_values(task.values_codec, data, counts, plan.num_dense).prunable
    return part, data, Residual(mask=trained.mask, values=change)


def _epochs(
    engine: Engine,
    plan: Plan,
    mask: BoolArray,
    task: Task,
    samples: Samples,
    progress: Progress,
) -> BoolArray:
    """The epochs of a task; returns the mask at the end, which has moved if the task lets it."""
    rng = draws_of(task)
    began = time.perf_counter()
    for epoch in range(task.epochs):
        evolve_after = _evolves_after(task, len(samples.trained))
        epoch_batches = _batches(plan, task, samples, rng)
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


def _saliency(
    engine: Engine, plan: Plan, task: Task, samples: Samples, progress: Progress
) -> Weights:
    """The saliency of the kept weights, of one batch."""
    began = time.perf_counter()
    batch = next(_batches(plan, task, samples, draws_of(task)), None)
    if batch is None:
        raise EngineError(f"no batch can be made of {len(samples.trained)} samples")
    saliency, loss = measure_saliency(engine, *batch)
    progress.losses.append(loss)
    progress.train_s = time.perf_counter() - began
    progress.step_s.append(progress.train_s)
    return Weights(prunable=saliency, dense=np.empty(0, np.float32))


def _batches(plan: Plan, task: Task, samples: Samples, rng: random.Random) -> Iterator[Batch]:
    """An epoch of shuffled batches."""
    return batches(
        samples.x,
        samples.y,
        samples.trained,
        batch_size=task.batch_size,
        rng=rng,
        least=min(_smallest_batch(plan), task.batch_size),
    )


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
