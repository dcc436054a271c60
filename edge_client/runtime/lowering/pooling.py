"""Maximum, average and global average pooling; upsampling."""

from __future__ import annotations

from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.geometry import Axis
from edge_client.runtime.program import Buffer, Field, Work
from fedsparse.errors import EngineError
from fedsparse.plan import GlobalAvgPool, MaxPool, Node, Upsample

MAX_REACH: Final = 2**16  # positions from a window's corner that an index of two bytes can name


def pool(builder: Builder, node: Node, operator: MaxPool) -> Buffer:
    """A maximum remembers where it was, so that nothing of its input need be kept."""
    vertical, horizontal = _axes(builder, node, operator)
    source = builder.read(node.inputs[0])
    count = builder.floats(node.name)
    output = builder.buffer(floats=count)
    fields = _fields(builder, node, operator)
    if operator.kind == MaxPool.kind:
        _check_reach(node, vertical, horizontal)
        fields["index"] = builder.extras[node.name, "index"] = builder.buffer(
            sample_bytes=2 * count
        )
    builder.emit(
        operator.kind,
        builder.channels(node.name)[0],
        Work(touches=count * vertical.kernel * horizontal.kernel),
        **fields,
        input=source,
        output=output,
    )
    return output


def pool_backward(builder: Builder, node: Node, operator: MaxPool, gradient: Buffer) -> None:
    """Each output's gradient goes to its maximum, or in equal shares to its window."""
    vertical, horizontal = _axes(builder, node, operator)
    count, size = builder.floats(node.name), builder.floats(node.inputs[0])
    result = builder.buffer(floats=size)
    fields = _fields(builder, node, operator)
    scattered = 2 * count * vertical.kernel * horizontal.kernel
    if operator.kind == MaxPool.kind:
        fields["index"] = builder.extras[node.name, "index"]
        scattered = 8 * count
    builder.emit(
        f"{operator.kind}_backward",
        builder.channels(node.name)[0],
        Work(touches=size + scattered),
        **fields,
        input=gradient,
        output=result,
    )
    builder.deliver(node.inputs[0], result)


def global_avg_pool(builder: Builder, node: Node, operator: GlobalAvgPool) -> Buffer:
    """The mean of every channel."""
    channels, positions = builder.channels(node.inputs[0])
    source = builder.read(node.inputs[0])
    output = builder.buffer(floats=channels)
    builder.emit(
        operator.kind,
        channels,
        Work(touches=channels * positions),
        channels=channels,
        positions=positions,
        input=source,
        output=output,
    )
    return output


def global_avg_pool_backward(
    builder: Builder, node: Node, operator: GlobalAvgPool, gradient: Buffer
) -> None:
    """An equal share for every position."""
    channels, positions = builder.channels(node.inputs[0])
    result = builder.buffer(floats=channels * positions)
    builder.emit(
        f"{operator.kind}_backward",
        channels,
        Work(touches=channels * positions),
        channels=channels,
        positions=positions,
        input=gradient,
        output=result,
    )
    builder.deliver(node.inputs[0], result)


def upsample(builder: Builder, node: Node, operator: Upsample) -> Buffer:
    """Copies of every position."""
    count = builder.floats(node.name)
    source = builder.read(node.inputs[0])
    output = builder.buffer(floats=count)
    _scale(builder, node, operator, operator.kind, source, output)
    return output


def upsample_backward(builder: Builder, node: Node, operator: Upsample, gradient: Buffer) -> None:
    """The sum over the copies."""
    result = builder.buffer(floats=builder.floats(node.inputs[0]))
    _scale(builder, node, operator, f"{operator.kind}_backward", gradient, result)
    builder.deliver(node.inputs[0], result)


def _scale(
    builder: Builder, node: Node, operator: Upsample, kernel: str, source: Buffer, output: Buffer
) -> None:
    channels, *spatial = builder.plan.shapes[node.inputs[0]]
    height, width = (1, *spatial)[-2:]
    rows, columns = (1, *operator.scale)[-2:]
    builder.emit(
        kernel,
        channels,
        Work(touches=2 * builder.floats(node.name)),
        height=height,
        width=width,
        rows=rows,
        columns=columns,
        input=source,
        output=output,
    )


def _axes(builder: Builder, node: Node, operator: MaxPool) -> tuple[Axis, Axis]:
    shape = builder.plan.shapes[node.inputs[0]]
    return Axis.of_window(shape, operator.kernel, operator.stride, operator.pads)


def _check_reach(node: Node, vertical: Axis, horizontal: Axis) -> None:
    reach = (vertical.kernel - 1) * horizontal.size + horizontal.kernel
    if reach > MAX_REACH:
        raise EngineError(
            f"node '{node.name}': a pooling window spans {reach} positions of its input, the "
            f"sparse engine can do {MAX_REACH}: use a smaller kernel or global_avg_pool"
        )


def _fields(builder: Builder, node: Node, operator: MaxPool) -> dict[str, Field]:
    vertical, horizontal = _axes(builder, node, operator)
    return {
        "channels": builder.plan.shapes[node.inputs[0]][0],
        "height": vertical.size,
        "width": horizontal.size,
        "kernel_height": vertical.kernel,
        "kernel_width": horizontal.kernel,
        "stride_height": vertical.stride,
        "stride_width": horizontal.stride,
        "top": vertical.before,
        "left": horizontal.before,
        "output_height": vertical.output,
        "output_width": horizontal.output,
    }
