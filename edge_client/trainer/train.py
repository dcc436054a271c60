"""One task on a device: read mask, values and samples; train; write the update."""

from __future__ import annotations

import time
from pathlib import Path

from edge_client.data.samples import Samples, load_samples, split_holdout
from edge_client.memory import peak_rss_bytes
from edge_client.runtime.engines import Optimizer, open_engine
from edge_client.trainer.masks import MaskMissingError, receive_mask, save_mask
from edge_client.trainer.request import EXIT_MASK_MISSING, EXIT_OK, TrainRequest
from edge_client.trainer.residual import load_residual, save_residual
from edge_client.trainer.work import (
    Footprint,
    Received,
    Residual,
    encode_result,
    engine_seed,
    keeps_residual,
    make_update,
    train,
)
from fedsparse.body import Bytes
from fedsparse.errors import RemoteProtocolError
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import counts_of
from fedsparse.sparsity.values import decode_values
from fedsparse.stored import read_message, save_message
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import Task


def run_task(request: TrainRequest) -> int:
    """Do the task in `request.task`, and write the update to `request.trained`.

    Returns:
        An exit code of edge_client/trainer/request.py.

    Raises:
        FedSparseError: bad data, a task that contradicts itself, training that diverged.
    """
    began = time.perf_counter()
    task, body = _read_task(request)
    plan = Plan.from_json(Path(request.plan).read_bytes())
    parts = split_parts(task.parts, body)
    try:
        mask = receive_mask(plan, task.mask_digest, parts.get("mask"), Path(request.masks))
    except MaskMissingError:
        return EXIT_MASK_MISSING
    if "values" not in parts:
        raise RemoteProtocolError("the task carries no values")
    samples = _load(request, plan)
    part, values = parts["values"]
    weights = decode_values(part.codec, values, counts_of(plan, mask), plan.num_dense)
    engine = open_engine(
        plan,
        mask,
        weights,
        batch_size=task.batch_size,
        setup=request.setup,
        optimizer=Optimizer(
            momentum=task.momentum, weight_decay=task.weight_decay, power=task.power
        ),
        graph=Path(request.graph) if request.graph else None,
        seed=engine_seed(task),
    )
    del weights, parts, values, body
    trained = train(engine, plan, task, mask, samples)
    del engine  # what is sent is encoded in the memory that it held
    received = Received(mask=mask, values=lambda: _values_again(request))
    result = encode_result(plan, task, received, trained, _residual(request, task, plan))
    if result.mask_digest != task.mask_digest:
        save_mask(Path(request.masks), result.mask_digest, trained.mask)
    footprint = Footprint(
        trainer_s=time.perf_counter() - began,
        peak_rss_bytes=peak_rss_bytes(),
        agent_rss_bytes=request.agent_rss_bytes,
    )
    message = make_update(task, result, trained, len(samples.trained), footprint)
    save_residual(Path(request.lost), task, result.mask_digest, result.residual)
    save_message(request.trained, message, Bytes(result.body))
    return EXIT_OK


def _read_task(request: TrainRequest) -> tuple[Task, bytes]:
    task, body = read_message(Path(request.task))
    if not isinstance(task, Task):
        raise RemoteProtocolError(f"expected a task, got {type(task).__name__}")
    return task, body


def _values_again(request: TrainRequest) -> memoryview:
    task, body = _read_task(request)
    return split_parts(task.parts, body)["values"][1]


def _residual(request: TrainRequest, task: Task, plan: Plan) -> Residual | None:
    if not keeps_residual(task):
        return None
    return load_residual(Path(request.residual), task, plan, Path(request.masks))


def _load(request: TrainRequest, plan: Plan) -> Samples:
    x, y = load_samples(Path(request.data), plan)
    # The split must be the same in every round: what is held out is never trained on.
    trained, held_out = split_holdout(len(y), request.holdout, seed=0)
    return Samples(x=x, y=y, trained=trained, held_out=held_out)
