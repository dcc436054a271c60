"""The training graph of any torch module: traced, written as ONNX, priced, and held against torch.

The graph yields gradients, not new weights: docs/decisions/ says why. Needs torch, an extra: import
this module where it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from aggregator.models.graph.footprint import footprint
from aggregator.models.graph.selftest import SAMPLES, check_graph, plausible_samples, random_targets
from aggregator.models.graph.trace import (
    BATCH,
    Subject,
    moved_to,
    subject_of,
    trace_inference,
    trace_training,
)
from aggregator.models.graph.writing import write_model
from aggregator.models.to_torch import load_weights, loss_function, to_torch
from fedsparse.errors import PlanError
from fedsparse.plan import Loss, Plan, Role, Shape
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.types import Weights


def export_graph(
    module: torch.nn.Module,
    input_shape: Shape,
    loss: Loss,
    *,
    prunable: Sequence[str],
    name: str = "",
) -> TrainingGraph:
    """Export one training step and the inference of a module.

    Dropout becomes an input of random numbers; frozen parameters and constant buffers go into the
    file with their values; everything else is an input.

    Args:
        module: `(batch, *input_shape)` to `(batch, outputs)`; not changed. Its values are those
            that it is tested with.
        input_shape: of one sample.
        loss: what it is trained for.
        prunable: names of the parameters that masks apply to.
        name: in messages; default: the module's class.

    Raises:
        PlanError: it cannot be traced; it uses an operator that has no standard ONNX operators
            here; or the graph does not compute what torch does. Every message names the operator.
    """
    name = name or type(module).__name__
    module = copy.deepcopy(module).cpu().float()
    try:
        return _export(module, input_shape, loss, prunable, name)
    except PlanError as error:
        raise PlanError(f"{name}: {error}") from error


def plan_graph(plan: Plan) -> TrainingGraph:
    """The training graph of a plan whose operators torch has; the values do not matter.

    Raises:
        PlanError: as `export_graph`.
    """
    module = to_torch(plan)
    load_weights(module, plan, _plain_weights(plan))
    return export_graph(
        module, plan.input_shape, plan.loss,
        prunable=[tensor.name for tensor in plan.prunable], name=plan.name,
    )  # fmt: skip


def _export(
    module: torch.nn.Module, input_shape: Shape, loss: Loss, prunable: Sequence[str], name: str
) -> TrainingGraph:
    samples = plausible_samples(module.eval(), input_shape, SAMPLES)
    subject = subject_of(module, samples[:BATCH], torch.float32)
    _check_prunable(subject, prunable)
    with torch.no_grad():
        outputs = module.eval()(samples[:BATCH])
    targets = random_targets(loss, outputs, torch.Generator().manual_seed(0))
    of_loss = loss_function(loss)
    training = write_model(
        trace_training(subject, of_loss, samples[:BATCH], targets), name, prunable
    )
    inference = write_model(trace_inference(subject, samples[:BATCH]), name)
    priced = footprint(training)
    graph = TrainingGraph(
        tensors=(*subject.trained, *subject.statistics),
        prunable=tuple(prunable),
        draws=subject.draws,
        least_batch=_least_batch(subject, samples),
        multiply_adds=priced.multiply_adds,
        live_bytes=priced.lines,
        inference_bytes=footprint(inference).lines,
        nodes=len(training.graph.node),
        training=training.SerializeToString(deterministic=True),
        inference=inference.SerializeToString(deterministic=True),
    )
    exact = subject_of(module, samples[:BATCH], torch.float64)
    check_graph(graph, exact, subject, of_loss, loss, samples)
    return graph


def _check_prunable(subject: Subject, prunable: Sequence[str]) -> None:
    if unknown := [name for name in prunable if name not in subject.trained]:
        raise PlanError(
            f"'{unknown[0]}' cannot be pruned: it is no trained parameter; there are "
            f"{', '.join(subject.trained)}"
        )


def _least_batch(subject: Subject, samples: torch.Tensor) -> int:
    """2 where torch refuses a batch of one in training, as a batch-norm over vectors does."""
    subject.module.train()
    kept = moved_to(dict(subject.module.named_buffers()), torch.float32)
    try:
        with torch.no_grad():
            subject.module(samples[:1])
    except ValueError:
        return 2
    finally:
        for name, value in subject.module.named_buffers():
            value.copy_(kept[name])
    return 1


def _plain_weights(plan: Plan) -> Weights:
    """Of the size that layers start with, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)

    def values(tensors: Sequence[object]) -> torch.Tensor:
        parts = [torch.empty(0)]
        for tensor in plan.tensors:
            if tensor not in tensors:
                continue
            drawn = torch.randn(tensor.size, generator=generator)
            if tensor.role in (Role.SCALE, Role.RUNNING_VAR):
                parts.append(1 + 0.1 * drawn.abs())
            else:
                parts.append(drawn * (2 / max(1, tensor.fan_in)) ** 0.5 if tensor.fan_in else
                             0.1 * drawn)  # fmt: skip
        return torch.cat(parts)

    return Weights(prunable=values(plan.prunable).numpy(), dense=values(plan.dense).numpy())
