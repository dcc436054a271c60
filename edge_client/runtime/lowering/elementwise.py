"""ReLU, addition and flattening: in place wherever nobody reads the old contents again."""

from __future__ import annotations

from edge_client.runtime.builder import Builder
from edge_client.runtime.program import Buffer, Work
from fedsparse.plan import Add, Flatten, Node, Relu


def relu(builder: Builder, node: Node, operator: Relu) -> Buffer:
    """Its output is what its gradient is masked with."""
    count = builder.floats(node.name)
    source = builder.read(node.inputs[0])
    output = source if builder.may_overwrite(source) else builder.buffer(floats=count)
    builder.emit(
        operator.kind, count, Work(touches=2 * count), count=count, input=source, output=output
    )
    output.saved = True
    return output


def relu_backward(builder: Builder, node: Node, operator: Relu, gradient: Buffer) -> None:
    """In place."""
    count = builder.floats(node.name)
    builder.emit(
        f"{operator.kind}_backward",
        count,
        Work(touches=3 * count),
        count=count,
        input=builder.values[node.name],
        output=gradient,
    )
    builder.deliver(node.inputs[0], gradient)


def add(builder: Builder, node: Node, operator: Add) -> Buffer:
    """In place of the first input that is free."""
    count = builder.floats(node.name)
    first, second = [builder.read(source) for source in node.inputs]
    free = [buffer for buffer in (first, second) if builder.may_overwrite(buffer)]
    output = free[0] if free else builder.buffer(floats=count)
    builder.emit(
        operator.kind,
        count,
        Work(touches=3 * count),
        count=count,
        input=first,
        other=second,
        output=output,
    )
    return output


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
