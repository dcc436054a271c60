"""Batch normalisation."""

from __future__ import annotations

from edge_client.runtime.builder import Builder
from edge_client.runtime.program import Buffer, Field, Ref, Store, Work
from fedsparse.plan import BatchNorm, Node


def batch_norm(builder: Builder, node: Node, operator: BatchNorm) -> Buffer:
    """Keeps its input, and the batch's statistics, for the way back.

    Its output is clamped, or left to its reader, where `fusion` says so.
    """
    channels, positions = builder.channels(node.name)
    for statistic in ("mean", "inverse"):
        builder.extras[node.name, statistic] = builder.buffer(fixed_floats=channels)
    if positions == 1:
        builder.lone_norms.append(node.name)
    source = builder.read(node.inputs[0], saved=True)
    fields = _fields(builder, node, operator)
    fusion = builder.fusions[node.name]
    if fusion.deferred:
        work = Work(touches=2 * channels * positions)
        builder.emit("batch_norm_statistics", channels, work, **fields, input=source)
        made = {name: fields[name] for name in ("mean", "inverse", "scale", "shift", "low", "high")}
        builder.deferred[fusion.clamp.name if fusion.clamp else node.name] = made
        return source
    output = builder.buffer(floats=channels * positions)
    work = Work(touches=4 * channels * positions)
    builder.emit("batch_norm", channels, work, **fields, input=source, output=output)
    return output


def batch_norm_backward(
    builder: Builder, node: Node, operator: BatchNorm, gradient: Buffer
) -> None:
    """Turns the gradient of its (clamped) output into that of its input, in place."""
    channels, positions = builder.channels(node.name)
    scale = builder.parameter_gradient(f"{node.name}.weight")
    shift = builder.parameter_gradient(f"{node.name}.bias")
    builder.emit(
        "batch_norm_backward",
        channels,
        Work(touches=6 * channels * positions),
        **_fields(builder, node, operator),
        output=gradient,
        input=builder.values[node.inputs[0]],
        accumulate=int(builder.accumulate),
        scale_gradient=scale,
        shift_gradient=shift,
    )
    builder.update(f"{node.name}.weight", scale)
    builder.update(f"{node.name}.bias", shift)
    builder.deliver(node.inputs[0], gradient)


def _fields(builder: Builder, node: Node, operator: BatchNorm) -> dict[str, Field]:
    channels, positions = builder.channels(node.name)
    tensors: dict[str, Field] = {
        field: Ref(store=Store.VALUE, tensor=f"{node.name}.{parameter}")
        for field, parameter in (
            ("scale", "weight"),
            ("shift", "bias"),
            ("running_mean", "running_mean"),
            ("running_var", "running_var"),
        )
    }
    low, high = builder.fusions[node.name].bounds
    return tensors | {
        "low": low,
        "high": high,
        "channels": channels,
        "positions": positions,
        "eps": float(operator.eps),
        "momentum": float(operator.momentum),
        "mean": builder.extras[node.name, "mean"],
        "inverse": builder.extras[node.name, "inverse"],
    }
