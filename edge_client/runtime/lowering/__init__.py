"""From a plan to a program: the kernel calls of every operator, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.lowering.activations import (
    activation,
    activation_backward,
    dropout,
    dropout_backward,
)
from edge_client.runtime.lowering.group_norm import group_norm, group_norm_backward
from edge_client.runtime.lowering.joins import (
    add,
    add_backward,
    concat,
    concat_backward,
    flatten,
    flatten_backward,
    mul,
    mul_backward,
)
from edge_client.runtime.lowering.losses import loss
from edge_client.runtime.lowering.norm import batch_norm, batch_norm_backward
from edge_client.runtime.lowering.pooling import (
    global_avg_pool,
    global_avg_pool_backward,
    pool,
    pool_backward,
    upsample,
    upsample_backward,
)
from edge_client.runtime.lowering.weighted import weighted, weighted_backward
from edge_client.runtime.program import Buffer, Program, Ref, Store, Work
from fedsparse.errors import EngineError
from fedsparse.plan import (
    INPUT,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Mul,
    Node,
    Plan,
    Relu,
    Relu6,
    Role,
    Sigmoid,
    Silu,
    Tanh,
    Upsample,
)

Forward = Callable[..., Buffer]  # (builder, node, operator) -> where the output is
Backward = Callable[..., None]  # (builder, node, operator, gradient of the output)

RULES: Final[dict[type, tuple[Forward, Backward]]] = {
    Linear: (weighted, weighted_backward),
    Conv: (weighted, weighted_backward),
    BatchNorm: (batch_norm, batch_norm_backward),
    GroupNorm: (group_norm, group_norm_backward),
    LayerNorm: (group_norm, group_norm_backward),
    **dict.fromkeys(
        (Relu, Relu6, LeakyRelu, Sigmoid, Tanh, HardSigmoid, HardSwish, Silu, Gelu),
        (activation, activation_backward),
    ),
    Dropout: (dropout, dropout_backward),
    MaxPool: (pool, pool_backward),
    AvgPool: (pool, pool_backward),
    GlobalAvgPool: (global_avg_pool, global_avg_pool_backward),
    Upsample: (upsample, upsample_backward),
    Add: (add, add_backward),
    Mul: (mul, mul_backward),
    Concat: (concat, concat_backward),
    Flatten: (flatten, flatten_backward),
}


def lower(
    plan: Plan,
    kept: Sequence[int],
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    accumulate: bool = False,
    dense_layers: Collection[str] = (),
) -> Program:
    """The program of one training step.

    Args:
        plan: the model.
        kept: kept weights of each prunable tensor, in plan order.
        momentum, weight_decay: of SGD.
        accumulate: whether a step has several micro-batches.
        dense_layers: weight tensors that dense kernels are to be taken for.

    Raises:
        EngineError: a count does not fit its tensor, there is no tensor of such a name, or a node
            cannot be run.
    """
    builder = Builder(
        plan,
        _counts(plan, kept),
        momentum=momentum,
        weight_decay=weight_decay,
        accumulate=accumulate,
        dense_layers=dense_layers,
    )
    if unknown := builder.dense_layers - builder.kept.keys():
        raise EngineError(f"plan '{plan.name}' has no weight tensor '{min(unknown)}'")
    _load(builder)
    _forward(builder)
    forward_end = len(builder.instructions)
    last = plan.nodes[-1].name
    loss(builder, last)
    _backward(builder)
    done = builder.instructions
    for buffer in builder.buffers:
        if buffer.persistent:
            buffer.first, buffer.last = 0, len(done)
    return Program(
        start=tuple(builder.start),
        load=done[0],
        forward=tuple(done[1:forward_end]),
        loss=done[forward_end],
        backward=tuple(done[forward_end + 1 :]),
        update=tuple(builder.updates),
        buffers=tuple(builder.buffers),
        logits=builder.values[last],
        outputs=plan.classes,
        weights=tuple(builder.weights),
        lone_norms=tuple(builder.lone_norms),
    )


def _forward(builder: Builder) -> None:
    for node in builder.plan.nodes:
        builder.node = node.name
        forward, _ = _rule(node)
        builder.define(node.name, forward(builder, node, node.operator))


def _backward(builder: Builder) -> None:
    """Nodes without a gradient lead nowhere, or nothing before them is trained."""
    for node in reversed(builder.plan.nodes):
        if node.name in builder.gradients:
            builder.node = node.name
            _, backward = _rule(node)
            backward(builder, node, node.operator, builder.gradients.pop(node.name))


def _rule(node: Node) -> tuple[Forward, Backward]:
    operator = node.operator
    if type(operator) not in RULES:
        raise EngineError(
            f"node '{node.name}': the sparse engine has no kernel for '{operator.kind}'"
        )
    return RULES[type(operator)]


def _counts(plan: Plan, kept: Sequence[int]) -> dict[str, int]:
    """Kept weights of every weight tensor; one that is not prunable keeps all."""
    prunable = plan.prunable
    if len(kept) != len(prunable):
        raise EngineError(f"{len(kept)} kept counts for {len(prunable)} prunable tensors")
    counts = {tensor.name: tensor.size for tensor in plan.dense if tensor.role is Role.WEIGHT}
    for tensor, count in zip(prunable, kept, strict=True):
        if not 0 <= count <= tensor.size:
            raise EngineError(f"'{tensor.name}' has {tensor.size} weights, {count} cannot be kept")
        counts[tensor.name] = count
    return counts


def _load(builder: Builder) -> None:
    count = math.prod(builder.plan.input_shape)
    samples = builder.buffer(floats=count)
    builder.emit(
        "load",
        count,
        Work(touches=4 * count),
        count=count,
        input=Ref(store=Store.SAMPLES),
        output=samples,
    )
    builder.define(INPUT, samples)
