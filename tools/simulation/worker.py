"""What the processes of a simulation compute: a client's task, and scores of a model.

The work is the trainer's own (`edge_client/trainer/work.py`) on the device's own engine; only
files, messages and process starts are left out. Results do not depend on which process did what.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge_client.bench.work import step_work
from edge_client.data.samples import Samples, load_samples
from edge_client.runtime.engine import Engine
from edge_client.runtime.engines import Optimizer, open_engine, with_power
from edge_client.runtime.setup import EngineSetup
from edge_client.trainer.residual import decode_residual, encode_residual
from edge_client.trainer.work import (
    Footprint,
    Received,
    encode_result,
    engine_seed,
    keeps_residual,
    make_update,
    train,
)
from fedsparse.plan import Plan
from fedsparse.score import score
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.packing import unpack
from fedsparse.sparsity.values import decode_values
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights
from fedsparse.wire.headers import decode_message, encode_message, split_parts
from fedsparse.wire.messages import Evaluation, Task

ENGINES_KEPT: Final = 4
# From this density on dense kernels are faster; a rule, not a race, so that a seed gives the same
# bits in every run (`fedsparse bench runtime` shows the break-even of a machine).
DENSE_FROM: Final = 0.7
SCORED_AT_ONCE: Final = 64
# What updates report instead of the time that passed: numbers are as long as they need to be, and a
# seed is to give the same bytes in every run.
SOME_S: Final = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOrder:
    """One client's task.

    Attributes:
        frame: the task message as it was received.
        mask: packed bits of its mask.
        samples: the client's `.npz`.
        residual: what the encoding of its updates lost, as a device has it on its disk.
        masks: folder of masks, named by digest.
    """

    frame: bytes
    mask: bytes
    samples: Path
    residual: bytes
    masks: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAnswer:
    """What a client has made.

    Attributes:
        frame: the update message; empty where training failed.
        mask: packed bits of the mask that the update is under.
        lost: what the encoding of this update lost; empty where that is not kept.
        train_s: what the training loop took.
        multiply_adds: of products with kept weights, over the whole task.
        failure: why there is no update.
    """

    frame: bytes = b""
    mask: bytes = b""
    lost: bytes = b""
    train_s: float = 0.0
    multiply_adds: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOrder:
    """Score a model on a part of the test set.

    Attributes:
        mask: packed bits.
        weights: kept values `(nnz,)` and dense ones `(num_dense,)`.
        samples: the `.npz` of the test set.
        first, last: which samples, `last` excluded.
    """

    mask: bytes
    weights: Weights
    samples: Path
    first: int
    last: int


class Worker:
    """Trains and scores one plan; keeps the engines of the latest masks.

    Args:
        plan: the model.
        engine: a name of `tools/simulation/spec.py: ENGINES`.
    """

    def __init__(self, plan: Plan, engine: str) -> None:
        self.plan = plan
        self._kind = engine
        self._engines: OrderedDict[tuple[object, ...], Engine] = OrderedDict()
        self._test_sets: dict[Path, tuple[Float32Array, IntArray | Float32Array]] = {}

    def train(self, order: TrainOrder) -> TrainAnswer:
        """Do a task; raises `FedSparseError` where it cannot be done."""
        task, body = decode_message(order.frame)
        if not isinstance(task, Task):
            raise TypeError(f"a worker trains tasks, not {type(task).__name__}")
        mask = unpack(order.mask, self.plan.num_prunable)
        part, values = split_parts(task.parts, body)["values"]
        weights = decode_values(part.codec, values, counts_of(self.plan, mask), self.plan.num_dense)
        optimizer = Optimizer(
            momentum=task.momentum, weight_decay=task.weight_decay, power=task.power
        )
        self._engine(mask, order.mask, weights, task.batch_size, optimizer, engine_seed(task))
        samples = _all_of(order.samples, self.plan)
        # While it trains, an engine's mask may move: it is kept only if it comes back as it was.
        key, engine = self._engines.popitem()
        trained = train(engine, self.plan, task, mask, samples)
        if trained.mask is mask:
            self._engines[key] = engine
        residual = None
        if keeps_residual(task):
            residual = decode_residual(order.residual, task, self.plan, order.masks)
        received = Received(mask=mask, values=lambda: values)
        result = encode_result(self.plan, task, received, trained, residual)
        lost = b""
        if result.residual is not None:
            lost = encode_residual(task, result.mask_digest, result.residual)
        train_s = trained.progress.train_s
        trained.progress.train_s, trained.progress.step_s = SOME_S, [SOME_S]
        footprint = Footprint(trainer_s=SOME_S)
        update = make_update(task, result, trained, len(samples.trained), footprint)
        return TrainAnswer(
            frame=encode_message(update, result.body),
            mask=np.packbits(trained.mask, bitorder="little").tobytes(),
            lost=lost,
            train_s=train_s,
            multiply_adds=_samples_seen(task, len(samples.trained))
            * sample_multiply_adds(self.plan, counts_of(self.plan, mask)),
        )

    def score(self, order: ScoreOrder) -> Evaluation:
        """Score a model; raises `EngineError` where its outputs are not finite."""
        if order.samples not in self._test_sets:
            self._test_sets[order.samples] = load_samples(order.samples, self.plan)
        x, y = self._test_sets[order.samples]
        mask = unpack(order.mask, self.plan.num_prunable)
        engine = self._engine(
            mask, order.mask, order.weights, SCORED_AT_ONCE, Optimizer(momentum=0.0), 0
        )
        rows = slice(order.first, order.last)
        return score(self.plan.loss, [(engine.logits(x[rows]), y[rows])])

    def _engine(
        self,
        mask: BoolArray,
        bits: bytes,
        weights: Weights,
        batch_size: int,
        optimizer: Optimizer,
        seed: int,
    ) -> Engine:
        """An engine with these weights; the last one of the mask begins anew."""
        key = (bits, batch_size, optimizer)
        engine = self._engines.pop(key, None)
        if engine is None:
            engine = self._open(mask, weights, batch_size, optimizer, seed)
        else:
            engine.restart(weights, seed=seed)
        self._engines[key] = engine
        if len(self._engines) > ENGINES_KEPT:
            self._engines.popitem(last=False)
        return engine

    def _open(
        self,
        mask: BoolArray,
        weights: Weights,
        batch_size: int,
        optimizer: Optimizer,
        seed: int,
    ) -> Engine:
        if self._kind != "sparse":
            from tools.torch_engine import open_torch_engine, torch_device

            engine = open_torch_engine(
                self.plan,
                mask,
                weights,
                batch_size=batch_size,
                momentum=optimizer.of_engine.momentum,
                weight_decay=optimizer.of_engine.weight_decay,
                seed=seed,
                device=torch_device(),
                softmax_first=self._kind == "torch_softmax",
            )
            return with_power(engine, self.plan, mask, optimizer, seed=seed)
        setup = EngineSetup(micro_batch=batch_size, dense_layers=dense_layers(self.plan, mask))
        return open_engine(
            self.plan,
            mask,
            weights,
            batch_size=batch_size,
            setup=setup,
            optimizer=optimizer,
            seed=seed,
        )


def _samples_seen(task: Task, num_examples: int) -> int:
    """How often a task takes a sample; saliency takes one batch."""
    if task.asks_saliency:
        return min(task.batch_size, num_examples)
    return task.epochs * num_examples


def dense_layers(plan: Plan, mask: BoolArray) -> tuple[str, ...]:
    """The layers that keep so much under `mask` that dense kernels are faster."""
    return tuple(
        tensor.name
        for tensor, count in zip(plan.prunable, counts_of(plan, mask), strict=True)
        if count >= DENSE_FROM * tensor.size
    )


@functools.lru_cache(maxsize=256)
def sample_multiply_adds(plan: Plan, kept: tuple[int, ...]) -> int:
    """Of one sample's step, forward and backward, in products with kept weights."""
    return step_work(plan, kept, 1).multiply_adds


def _all_of(path: Path, plan: Plan) -> Samples:
    """A client's samples; it trains on all of them."""
    x, y = load_samples(path, plan)
    return Samples(x=x, y=y, trained=np.arange(len(y)), held_out=np.empty(0, np.intp))
