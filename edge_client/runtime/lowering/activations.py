"""Activations and dropout: in place wherever nobody reads the old contents again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_client.runtime.builder import Builder
from edge_client.runtime.program import Buffer, Field, Ref, Store, Work
from fedsparse.plan import Dropout, Gelu, LeakyRelu, Node, Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """How one is run.

    Attributes:
        from_output: its gradient follows from what it gave, else from what it was given.
        forward, backward: touches for each float.
    """

    from_output: bool
    forward: int
    backward: int


ACTIVATIONS: Final[dict[str, Activation]] = {
    "relu": Activation(from_output=True, forward=2, backward=3),
    "relu6": Activation(from_output=True, forward=3, backward=3),
    "leaky_relu": Activation(from_output=True, forward=2, backward=3),
    "hard_sigmoid": Activation(from_output=True, forward=3, backward=3),
    "sigmoid": Activation(from_output=True, forward=13, backward=3),
    "tanh": Activation(from_output=True, forward=16, backward=3),
    "hard_swish": Activation(from_output=False, forward=3, backward=3),
    "silu": Activation(from_output=False, forward=14, backward=16),
    "gelu": Activation(from_output=False, forward=18, backward=19),
    "gelu_tanh": Activation(from_output=False, forward=15, backward=20),
}
DROPOUT_TOUCHES: Final = 9


def activation(builder: Builder, node: Node, operator: Operator) -> Buffer:
    """What its gradient follows from is kept for the way back: its output, or else its input.

    Nothing is to be done where a batch-norm has done it.
    """
    if node.name in builder.fusions:
        return builder.read(node.inputs[0])
    count = builder.floats(node.name)
    kernel, trained = _kernel(operator), builder.differentiable[node.name]
    kind = ACTIVATIONS[kernel]
    source = builder.read(node.inputs[0], saved=trained and not kind.from_output)
    output = source if builder.may_overwrite(source) else builder.buffer(floats=count)
    output.saved |= trained and kind.from_output
    builder.emit(
        kernel,
        count,
        Work(touches=kind.forward * count),
        **_fields(operator, count),
        input=source,
        output=output,
    )
    return output


def activation_backward(builder: Builder, node: Node, operator: Operator, gradient: Buffer) -> None:
    """In place."""
    if node.name in builder.fusions:
        builder.deliver(node.inputs[0], gradient)
        return
    count = builder.floats(node.name)
    kernel = _kernel(operator)
    kind = ACTIVATIONS[kernel]
    builder.emit(
        f"{kernel}_backward",
        count,
        Work(touches=kind.backward * count),
        **_fields(operator, count),
        input=builder.values[node.name if kind.from_output else node.inputs[0]],
        output=gradient,
    )
    builder.deliver(node.inputs[0], gradient)


def dropout(builder: Builder, node: Node, operator: Dropout) -> Buffer:
    """Nothing is kept: the way back draws the same numbers again."""
    source = builder.read(node.inputs[0])
    output = (
        source
        if builder.may_overwrite(source)
        else builder.buffer(floats=builder.floats(node.name))
    )
    _drop(builder, node, operator, source, output)
    return output


def dropout_backward(builder: Builder, node: Node, operator: Dropout, gradient: Buffer) -> None:
    """The gradient is dropped where the value was, in place."""
    _drop(builder, node, operator, gradient, gradient)
    builder.deliver(node.inputs[0], gradient)


def _drop(builder: Builder, node: Node, operator: Dropout, source: Buffer, output: Buffer) -> None:
    count = builder.floats(node.name)
    builder.emit(
        operator.kind,
        count,
        Work(touches=DROPOUT_TOUCHES * count),
        node=builder.plan.nodes.index(node),
        rate=float(operator.p),
        seed=Ref(store=Store.SEED),
        sample=Ref(store=Store.SAMPLE),
        input=source,
        output=output,
    )


def _kernel(operator: Operator) -> str:
    return "gelu_tanh" if isinstance(operator, Gelu) and operator.approximate else operator.kind


def _fields(operator: Operator, count: int) -> dict[str, Field]:
    if isinstance(operator, LeakyRelu):
        return {"slope": float(operator.slope)}
    return {"count": count}
