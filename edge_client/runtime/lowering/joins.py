"""Sum, product and concatenation of values, and flattening."""

from __future__ import annotations

from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.program import FLOAT_BYTES, Buffer, Work
from fedsparse.plan import Add, Concat, Flatten, Mul, Node

GATE_TOUCHES: Final = 3


def add(builder: Builder, node: Node, operator: Add) -> Buffer:
    """In place of the first input that is free."""
    first, second = [builder.read(source) for source in node.inputs]
    return _combined(builder, node, operator.kind, first, second)


def add_backward(builder: Builder, node: Node, operator: Add, gradient: Buffer) -> None:
    """Both inputs receive the whole gradient; only one of them can have the buffer."""
    for source in node.inputs:
        taken = any(held is gradient for held in builder.gradients.values())
        builder.deliver(source, gradient, owned=not taken)


def flatten(builder: Builder, node: Node, operator: Flatten) -> Buffer:
    """Nothing to do: channel-major is the order already."""
    return builder.read(node.inputs[0])


def flatten_backward(builder: Builder, node: Node, operator: Flatten, gradient: Buffer) -> None:
    """Nothing to do either."""
    builder.deliver(node.inputs[0], gradient)


def mul(builder: Builder, node: Node, operator: Mul) -> Buffer:
    """Each input is kept if the other wants a gradient; in place of one that is free."""
    a, b = _factors(builder, node)
    first = builder.read(a, saved=builder.differentiable[b])
    second = builder.read(b, saved=builder.differentiable[a])
    if not _is_gated(builder, node):
        return _combined(builder, node, "multiply", first, second)
    count = builder.floats(node.name)
    free = builder.may_overwrite(first) and first is not second
    output = first if free else builder.buffer(floats=count)
    _gate(builder, node, first, second, output)
    return output


def mul_backward(builder: Builder, node: Node, operator: Mul, gradient: Buffer) -> None:
    """Each input's gradient is the output's times the other input; the last is had in place."""
    a, b = _factors(builder, node)
    first, second = builder.values[a], builder.values[b]
    gated, count = _is_gated(builder, node), builder.floats(node.name)
    if builder.differentiable[b]:
        result = builder.buffer(floats=builder.floats(b))
        if gated:
            channels, positions = builder.channels(node.name)
            builder.emit(
                "gate_gradient",
                channels,
                Work(touches=GATE_TOUCHES * count),
                positions=positions,
                input=first,
                other=gradient,
                output=result,
            )
        else:
            _multiply(builder, count, gradient, first, result)
        builder.deliver(b, result)
    if builder.differentiable[a]:
        if gated:
            _gate(builder, node, gradient, second, gradient)
        else:
            _multiply(builder, count, gradient, second, gradient)
        builder.deliver(a, gradient)


def concat(builder: Builder, node: Node, operator: Concat) -> Buffer:
    """The first input stays where it is and its buffer grows; the others are copied behind it.

    So a chain that concatenates to what it has (DenseNet) holds every value once.
    """
    total = builder.floats(node.name)
    sources = [builder.read(source) for source in node.inputs]
    output, start = sources[0], builder.floats(node.inputs[0])
    if output.size_bytes(1) == FLOAT_BYTES * start:
        output.sample_bytes = FLOAT_BYTES * total
    else:  # another value lies behind it already
        output, start = builder.buffer(floats=total), 0
    for name, source in list(zip(node.inputs, sources, strict=True))[1 if start else 0 :]:
        count = builder.floats(name)
        _copy(builder, count, source, output, output_start=start)
        start += count
    return output


def concat_backward(builder: Builder, node: Node, operator: Concat, gradient: Buffer) -> None:
    """Each input's slice of the gradient; the first input takes over the whole buffer."""
    start = builder.floats(node.inputs[0])
    for name in node.inputs[1:]:
        count = builder.floats(name)
        if builder.differentiable[name]:
            result = builder.buffer(floats=count)
            _copy(builder, count, gradient, result, input_start=start)
            builder.deliver(name, result)
        start += count
    builder.deliver(node.inputs[0], gradient)


def _combined(builder: Builder, node: Node, kernel: str, first: Buffer, second: Buffer) -> Buffer:
    """An elementwise kernel of two inputs, in place of the first of them that is free."""
    count = builder.floats(node.name)
    free = [buffer for buffer in (first, second) if builder.may_overwrite(buffer)]
    output = free[0] if free else builder.buffer(floats=count)
    work = Work(touches=3 * count)
    builder.emit(kernel, count, work, count=count, input=first, other=second, output=output)
    return output


def _factors(builder: Builder, node: Node) -> tuple[str, str]:
    """The two inputs; a gate second."""
    first, second = sorted(node.inputs, key=lambda name: -len(builder.plan.shapes[name]))
    return first, second


def _is_gated(builder: Builder, node: Node) -> bool:
    first, second = builder.input_shapes(node.inputs)
    return first != second


def _multiply(builder: Builder, count: int, source: Buffer, other: Buffer, output: Buffer) -> None:
    work = Work(touches=3 * count)
    builder.emit("multiply", count, work, count=count, input=source, other=other, output=output)


def _gate(builder: Builder, node: Node, source: Buffer, gate: Buffer, output: Buffer) -> None:
    channels, positions = builder.channels(node.name)
    builder.emit(
        "gate",
        channels,
        Work(touches=GATE_TOUCHES * channels * positions),
        positions=positions,
        input=source,
        other=gate,
        output=output,
    )


def _copy(
    builder: Builder,
    count: int,
    source: Buffer,
    output: Buffer,
    *,
    input_start: int = 0,
    output_start: int = 0,
) -> None:
    builder.emit(
        "copy_slice",
        count,
        Work(touches=2 * count),
        input_start=input_start,
        output_start=output_start,
        input=source,
        output=output,
    )
