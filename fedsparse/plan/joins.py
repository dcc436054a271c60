"""Operators that join values, and the one that only views them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fedsparse.errors import PlanError
from fedsparse.plan.operator import Operator, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Operator):
    """Elementwise sum of two inputs of one shape."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[int] = 2

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape of both inputs."""
        if inputs[0] != inputs[1]:
            raise PlanError(f"add needs two inputs of one shape, got {inputs[0]} and {inputs[1]}")
        return inputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mul(Operator):
    """Elementwise product of two inputs of one shape.

    Or of a feature map `(channels, *spatial)` and a gate `(channels,)`, in either order: each
    channel times its gate (squeeze and excite).
    """

    kind: ClassVar[str] = "mul"
    arity: ClassVar[int] = 2

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape of both inputs, or that of the feature map."""
        gate, gated = sorted(inputs, key=len)
        if gate not in (gated, gated[:1]):
            raise PlanError(
                "mul needs two inputs of one shape, or a feature map and a gate of one value a "
                f"channel, got {inputs[0]} and {inputs[1]}"
            )
        return gated


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Operator):
    """Two or more inputs, one after the other along the first axis: channels or features."""

    kind: ClassVar[str] = "concat"
    arity: ClassVar[int] = 2
    variadic: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(sum of channels, *spatial)`; the spatial sizes must be the same."""
        if len({shape[1:] for shape in inputs}) != 1:
            shapes = ", ".join(map(str, inputs))
            raise PlanError(f"concat needs inputs of the same spatial sizes, got {shapes}")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Operator):
    """`(channels, *spatial)` to `(channels * spatial,)`, channel-major as in torch."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """One axis of the same size."""
        return (math.prod(inputs[0]),)
