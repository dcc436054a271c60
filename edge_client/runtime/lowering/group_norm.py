"""Normalisation of each sample by itself: group and layer norm are one kernel."""

from __future__ import annotations

import math
from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.program import Buffer, Field, Ref, Store, Work
from fedsparse.plan import GroupNorm, LayerNorm, Node

SHORT_SPAN_TOUCHES: Final = 11  # where each position has parameters of its own


def group_norm(builder: Builder, node: Node, operator: GroupNorm | LayerNorm) -> Buffer:
    """Keeps its input, and the statistics of each sample's groups, for the way back."""
    fields, groups = _fields(builder, node, operator)
    for statistic in ("mean", "inverse"):
        fields[statistic] = builder.extras[node.name, statistic] = builder.buffer(floats=groups)
    source = builder.read(node.inputs[0], saved=True)
    count = builder.floats(node.name)
    output = builder.buffer(floats=count)
    builder.emit(
        "group_norm", groups, Work(touches=6 * count), **fields, input=source, output=output
    )
    return output


def group_norm_backward(
    builder: Builder, node: Node, operator: GroupNorm | LayerNorm, gradient: Buffer
) -> None:
    """The parameters' gradients, then that of the input in place of the output's."""
    fields, groups = _fields(builder, node, operator)
    count = builder.floats(node.name)
    weight, bias = f"{node.name}.weight", f"{node.name}.bias"
    scale, shift = builder.parameter_gradient(weight), builder.parameter_gradient(bias)
    for statistic in ("mean", "inverse"):
        fields[statistic] = builder.extras[node.name, statistic]
    fields |= {"input": builder.values[node.inputs[0]], "output": gradient}
    builder.emit(
        "group_norm_parameters",
        builder.sizes[weight],
        Work(touches=(SHORT_SPAN_TOUCHES if fields["span"] == 1 else 3) * count),
        **fields,
        accumulate=int(builder.accumulate),
        scale_gradient=scale,
        shift_gradient=shift,
    )
    if builder.differentiable[node.inputs[0]]:
        builder.emit("group_norm_backward", groups, Work(touches=7 * count), **fields)
        builder.deliver(node.inputs[0], gradient)
    builder.update(weight, scale)
    builder.update(bias, shift)


def _fields(
    builder: Builder, node: Node, operator: GroupNorm | LayerNorm
) -> tuple[dict[str, Field], int]:
    """What both directions are told, and the number of groups."""
    shape = builder.plan.shapes[node.name]
    parameters = builder.sizes[f"{node.name}.weight"]
    if isinstance(operator, GroupNorm):
        groups, span = operator.groups, math.prod(shape[1:])
    else:
        groups, span = math.prod(shape) // parameters, 1
    return {
        "groups": groups,
        "length": math.prod(shape) // groups,
        "span": span,
        "parameters": parameters,
        "eps": float(operator.eps),
        "scale": Ref(store=Store.VALUE, tensor=f"{node.name}.weight"),
        "shift": Ref(store=Store.VALUE, tensor=f"{node.name}.bias"),
    }, groups
