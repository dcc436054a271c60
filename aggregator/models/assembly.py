"""What both importers build on: nodes with their values, views, and every problem of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedsparse.errors import PlanError
from fedsparse.plan import (
    INPUT,
    Add,
    Concat,
    Conv,
    Dropout,
    Flatten,
    Linear,
    Loss,
    Mul,
    Operator,
    Plan,
    Shape,
    Sigmoid,
)
from fedsparse.plan.builder import PlanBuilder
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.types import Float32Array

SUPPORTED: Final = (
    "convolution (1-d, 2-d; groups, dilation), linear; batch-, group- and layer-norm; relu, relu6, "
    "leaky relu, sigmoid, tanh, silu, gelu, hard-sigmoid, hard-swish; max-pool, average-pool, "
    "global average-pool, upsampling (nearest); add, mul, concat, dropout, flatten, and a last "
    "softmax, which is dropped"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A model as it came in.

    Attributes:
        plan: its operators.
        values: its parameters by tensor name, each in its dense shape.
        notes: what the operator should know, one sentence each.
        graph: the training graph, where the plan has one.
        ending: `softmax`, `log_softmax` or `sigmoid` where the model ended in one that belongs to
            the loss; the plan ends before it.
    """

    plan: Plan
    values: dict[str, Float32Array]
    notes: tuple[str, ...] = ()
    graph: TrainingGraph | None = None
    ending: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An intermediate result.

    Attributes:
        node: the plan node that yields it; empty if it could not be planned.
        shape: its shape in the source model, without the batch; the plan's may lack axes of size 1.
    """

    node: str
    shape: Shape


class UnexpressedError(PlanError):
    """A model has operators that no plan has, all of them named; or its graph cannot be seen."""


class UnplannedError(Exception):
    """An operator reads a value that could not be planned, which is already reported."""


@dataclass(slots=True, kw_only=True)
class Assembly:
    """A plan in the making, with the values of its tensors and the problems met so far."""

    builder: PlanBuilder
    values: dict[str, Float32Array] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    loss: Loss = Loss.CROSS_ENTROPY
    ending: str = ""
    _owners: dict[str, str] = field(default_factory=dict)

    def input(self) -> Value:
        """The samples."""
        return Value(node=INPUT, shape=self.builder.shapes[INPUT])

    def claim(self, parameter: str, owner: str) -> None:
        """Note that `owner` uses a weight; raises `PlanError` when another node does already."""
        if parameter in self._owners:
            raise PlanError(
                f"its weight '{parameter}' is that of node '{self._owners[parameter]}' too; "
                "a weight that two nodes share cannot be planned"
            )
        self._owners[parameter] = owner

    def add(
        self,
        operator: Operator,
        *inputs: Value,
        name: str,
        values: Mapping[str, npt.NDArray[Any]] | None = None,
        shape: Shape | None = None,
    ) -> Value:
        """Append a node.

        Args:
            operator: what it does.
            inputs: what it reads.
            name: its wanted name.
            values: its parameters, by the last part of their tensor names.
            shape: of the output in the source model; None = the plan's.

        Raises:
            PlanError: shapes that do not fit, or values that are not finite.
        """
        sources = tuple(value.node for value in inputs)
        shapes = tuple(self.builder.shapes[source] for source in sources)
        operator.output_shape(shapes)  # first, for its message says more than a weight's shape does
        arrays = values or {}
        for tensor in operator.tensors("", shapes):
            value = arrays[tensor.name.removeprefix(".")]
            if value.shape != tensor.shape:
                raise PlanError(f"its {tensor.role.value} is {value.shape}, not {tensor.shape}")
            if not np.isfinite(value).all():
                raise PlanError(f"its {tensor.role.value} has values that are not finite")
        node = self.builder.add(operator, *sources, name=name)
        for parameter, value in arrays.items():
            self.values[f"{node}.{parameter}"] = np.ascontiguousarray(value, np.float32)
        return Value(node=node, shape=self.builder.shapes[node] if shape is None else shape)

    def add_weighted(
        self,
        operator: Conv | Linear,
        source: Value,
        *,
        name: str,
        values: dict[str, npt.NDArray[Any]],
    ) -> Value:
        """Append a layer; a 1x1 convolution of what was pooled to one position is a linear one."""
        planned = self.builder.shapes[source.node]
        if not isinstance(operator, Conv) or len(planned) > 1 or len(source.shape) == 1:
            return self.add(operator, source, name=name, values=values)
        ones = (1,) * len(operator.kernel)
        pads = tuple((0, 0) for _ in ones)
        if (operator.kernel, operator.pads, operator.groups) != (ones, pads, 1):
            raise PlanError("only a 1x1 convolution without groups can follow a global pool")
        flat = Linear(out_features=operator.out_channels, bias=operator.bias)
        weight = values["weight"].reshape(values["weight"].shape[:2])
        value = self.add(flat, source, name=name, values={**values, "weight": weight})
        return Value(node=value.node, shape=(operator.out_channels, *ones))

    def add_sum(self, left: Value, right: Value, *, name: str) -> Value:
        """Append a sum of two values of one shape."""
        if left.shape != right.shape:
            raise PlanError(f"it broadcasts {left.shape} and {right.shape}; shapes must be equal")
        return self.add(Add(), left, right, name=name, shape=left.shape)

    def add_product(self, left: Value, right: Value, *, name: str) -> Value:
        """Append a product of two values of one shape, or of a value and a gate for its channels.

        Raises:
            PlanError: any other broadcast.
        """
        sizes = sorted((left, right), key=lambda value: math.prod(value.shape))
        gate, gated = sizes
        ones = (gated.shape[0], *(1 for _ in gated.shape[1:]))
        if gate.shape not in (gated.shape, ones):
            raise PlanError(
                f"it broadcasts {left.shape} and {right.shape}; shapes must be equal, or one have "
                "a single value a channel"
            )
        if gate.shape != gated.shape and len(self.builder.shapes[gate.node]) > 1:
            flat = self.add(Flatten(), gate, name=f"{name}.flatten")
            left, right = (flat if value is gate else value for value in (left, right))
        return self.add(Mul(), left, right, name=name, shape=gated.shape)

    def add_concat(self, parts: Sequence[Value], *, axis: int, name: str) -> Value:
        """Append a concatenation of channels (or features); `axis` counts the batch."""
        if axis % (len(parts[0].shape) + 1) != 1:
            raise PlanError(f"it joins axis {axis}; only channels, axis 1, can be joined")
        if len(parts) == 1:
            return parts[0]
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        return self.add(Concat(), *parts, name=name, shape=shape)

    def add_dropout(self, p: float, source: Value, *, name: str) -> Value:
        """Append a dropout, which is trained with and has no effect in evaluation."""
        if not 0 <= p < 1:
            raise PlanError(f"p={p}; it must be at least 0 and below 1")
        return self.add(Dropout(p=p), source, name=name, shape=source.shape)

    def expand(self, value: Value, shape: Shape) -> Value:
        """The same node, as if its one position were many: what a gate's expansion is.

        Raises:
            PlanError: it has more positions than one.
        """
        planned = self.builder.shapes[value.node]
        if shape != value.shape and (shape[:1] != planned or len(value.shape) != len(shape)):
            raise PlanError(f"it expands {value.shape} to {shape}; only a channel's gate can be")
        return Value(node=value.node, shape=shape)

    def reshape(self, value: Value, shape: Shape, *, name: str) -> Value:
        """Another view of a value: a flattening, or axes of size 1 added or removed at the end.

        Raises:
            PlanError: any other change of shape.
        """
        planned = self.builder.shapes[value.node]
        if len(shape) == 1 and len(planned) > 1:
            return self.add(Flatten(), value, name=name)
        if _without_ones(shape) == _without_ones(planned):
            return Value(node=value.node, shape=shape)
        raise PlanError(
            f"it changes samples of shape {value.shape} to {shape}; only flattening can be"
        )

    def drop_softmax(self, kind: str, source: Value) -> Value:
        """A last softmax goes into the loss; raises `PlanError` where the loss has none."""
        if self.loss is not Loss.CROSS_ENTROPY:
            raise PlanError(f"a softmax over classes does not go with the loss '{self.loss.value}'")
        self.ending = kind
        self.notes.append(f"the last {kind} is dropped: the loss is taken on logits")
        return source

    def finish(self, source: str, output: Value) -> Imported:
        """The model that ends in `output`.

        Raises:
            UnexpressedError: with every problem met.
            PlanError: what is wrong with the plan as a whole.
        """
        if self.problems:
            raise UnexpressedError(_report(source, self.problems))
        try:
            plan = self.builder.build(self._last(output), loss=self.loss)
        except PlanError as error:
            raise PlanError(f"{source}: {error}") from error
        values = {tensor.name: self.values[tensor.name] for tensor in plan.tensors}
        return Imported(plan=plan, values=values, notes=tuple(self.notes), ending=self.ending)

    def _last(self, output: Value) -> str:
        """The node that yields what the loss is taken on: binary cross-entropy has the sigmoid."""
        last = self.builder.node(output.node)
        if self.loss is not Loss.BCE or last is None or not isinstance(last.operator, Sigmoid):
            return output.node
        self.ending = "sigmoid"
        self.notes.append("the last sigmoid is dropped: the loss is taken on logits")
        return last.inputs[0]


def _without_ones(shape: Shape) -> Shape:
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _report(source: str, problems: list[str]) -> str:
    advice = f"the runtime can train: {SUPPORTED}. Change the model, or move that part to the data"
    if len(problems) == 1:
        return f"{source}: {problems[0]}; {advice}"
    return "\n  ".join([f"{source}: {len(problems)} problems", *problems, advice])
