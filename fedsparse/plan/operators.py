"""The operators that a plan can hold: shapes, parameters and work of each.

Shapes carry no batch dimension: `(channels, *spatial)` of a feature map, `(features,)` of a vector.
Adding an operator means a class here, its kernels in an engine, and its rule in the importers.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final

from fedsparse.errors import PlanError

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]  # (before, after) of each spatial axis


class Role(str, Enum):
    """What a tensor of the model is for."""

    WEIGHT = "weight"
    BIAS = "bias"
    SCALE = "scale"
    SHIFT = "shift"
    RUNNING_MEAN = "running_mean"
    RUNNING_VAR = "running_var"

    @property
    def is_trained(self) -> bool:
        """False for running statistics, which are averaged but have no gradient."""
        return self not in (Role.RUNNING_MEAN, Role.RUNNING_VAR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One parameter tensor, as an operator declares it.

    Attributes:
        name: `<node>.<parameter>`, as in a torch state dict.
        shape: the dense shape.
        role: what it is for.
        prunable: whether a mask applies to it; the other tensors stay dense.
        fan_in: inputs of one output unit; 0 where that has no meaning.
    """

    name: str
    shape: Shape
    role: Role
    prunable: bool = False
    fan_in: int = 0

    @property
    def size(self) -> int:
        """Number of elements of the dense tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Base of all operators; the fields of a subclass are its attributes in the plan file."""

    kind: ClassVar[str] = ""
    arity: ClassVar[int] = 1

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Shape of the output for these input shapes; raises `PlanError` when they do not fit."""
        return inputs[0]

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """The parameters that a node of this kind owns, in plan order."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Operator):
    """`y = W x + b` over a vector; weight `(out, in)`."""

    kind: ClassVar[str] = "linear"
    out_features: int
    bias: bool = True
    prunable: bool = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(out_features,)`; the input must be flat."""
        if len(inputs[0]) != 1:
            raise PlanError(f"linear needs a flat input, got {inputs[0]}: add a flatten node")
        return (self.out_features,)

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Weight, then bias."""
        fan_in = inputs[0][0]
        return _weighted(node, (self.out_features, fan_in), fan_in, self.bias, self.prunable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Operator):
    """Cross-correlation over one or two spatial axes; weight `(out, in, *kernel)`, zero padding."""

    kind: ClassVar[str] = "conv"
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: Pads
    bias: bool = True
    prunable: bool = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(out_channels, *spatial)`."""
        return (self.out_channels, *_slide(inputs[0], self.kernel, self.stride, self.pads))

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Weight, then bias."""
        fan_in = inputs[0][0] * math.prod(self.kernel)
        shape = (self.out_channels, inputs[0][0], *self.kernel)
        return _weighted(node, shape, fan_in, self.bias, self.prunable)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Operator):
    """Batch normalisation over batch and space, with running statistics as torch keeps them."""

    kind: ClassVar[str] = "batch_norm"
    eps: float = 1e-5
    momentum: float = 0.1

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Scale, shift, running mean, running variance (unbiased), each `(channels,)`."""
        shape = inputs[0][:1]
        return (
            Tensor(name=f"{node}.weight", shape=shape, role=Role.SCALE),
            Tensor(name=f"{node}.bias", shape=shape, role=Role.SHIFT),
            Tensor(name=f"{node}.running_mean", shape=shape, role=Role.RUNNING_MEAN),
            Tensor(name=f"{node}.running_var", shape=shape, role=Role.RUNNING_VAR),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(Operator):
    """`max(x, 0)`."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Operator):
    """Maximum over windows; padding never wins (it counts as minus infinity)."""

    kind: ClassVar[str] = "max_pool"
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: Pads

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(channels, *spatial)`; floor division, as torch without `ceil_mode`."""
        for size, pads in zip(self.kernel, self.pads, strict=False):
            if max(pads) >= size:
                raise PlanError(f"pads {pads} of a window of {size}: it could hold padding alone")
        return (inputs[0][0], *_slide(inputs[0], self.kernel, self.stride, self.pads))


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(MaxPool):
    """Mean over windows; padding counts as zeros in the mean (torch's `count_include_pad=True`)."""

    kind: ClassVar[str] = "avg_pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAvgPool(Operator):
    """Mean over all spatial positions: `(channels, *spatial)` to `(channels,)`."""

    kind: ClassVar[str] = "global_avg_pool"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(channels,)`."""
        return inputs[0][:1]


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
class Flatten(Operator):
    """`(channels, *spatial)` to `(channels * spatial,)`, channel-major as in torch."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """One axis of the same size."""
        return (math.prod(inputs[0]),)


OPERATORS: Final[dict[str, type[Operator]]] = {
    operator.kind: operator
    for operator in (
        Linear, Conv, BatchNorm, Relu, MaxPool, AvgPool, GlobalAvgPool, Add, Flatten,
    )
}  # fmt: skip


def to_attributes(operator: Operator) -> dict[str, Any]:
    """The JSON attributes of an operator."""
    return {field.name: getattr(operator, field.name) for field in dataclasses.fields(operator)}


def from_attributes(kind: str, attributes: dict[str, Any], where: str) -> Operator:
    """Build an operator from JSON attributes; raises `PlanError` naming `where`."""
    if kind not in OPERATORS:
        known = ", ".join(sorted(OPERATORS))
        raise PlanError(f"{where}: operator '{kind}' is not supported; supported: {known}")
    fields = {field.name: field for field in dataclasses.fields(OPERATORS[kind])}
    if unknown := attributes.keys() - fields.keys():
        raise PlanError(f"{where}: {kind} has no attribute {sorted(unknown)[0]!r}")
    for name, field in fields.items():
        if name not in attributes and field.default is dataclasses.MISSING:
            raise PlanError(f"{where}: {kind} needs the attribute '{name}'")
    checked = {name: _checked(f"{where}: {name}", value) for name, value in attributes.items()}
    operator = OPERATORS[kind](**checked)
    _check_sizes(operator, where)
    return operator


def _checked(where: str, value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return tuple(_checked(where, item) for item in value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise PlanError(f"{where}: expected a number, a boolean or a list of them, got {value!r}")


def _check_sizes(operator: Operator, where: str) -> None:
    """Refuse attributes of the wrong type or sign before any arithmetic uses them."""
    for field in dataclasses.fields(operator):
        value = getattr(operator, field.name)
        if field.name in ("out_features", "out_channels"):
            good = _is_count(value, 1)
        elif field.name in ("kernel", "stride"):
            good = isinstance(value, tuple) and all(_is_count(item, 1) for item in value)
        elif field.name == "pads":
            good = isinstance(value, tuple) and all(
                isinstance(pair, tuple) and len(pair) == 2 and all(_is_count(i, 0) for i in pair)
                for pair in value
            )
        elif field.name in ("bias", "prunable"):
            good = isinstance(value, bool)
        else:
            good = type(value) in (float, int) and 0 <= value < 2**31
        if not good:
            raise PlanError(f"{where}: {operator.kind} cannot have {field.name}={value!r}")


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**31


def _weighted(
    node: str, shape: Shape, fan_in: int, bias: bool, prunable: bool
) -> tuple[Tensor, ...]:
    weight = Tensor(
        name=f"{node}.weight", shape=shape, role=Role.WEIGHT, prunable=prunable, fan_in=fan_in
    )
    if not bias:
        return (weight,)
    return (weight, Tensor(name=f"{node}.bias", shape=shape[:1], role=Role.BIAS, fan_in=fan_in))


def _slide(shape: Shape, kernel: Shape, stride: Shape, pads: Pads) -> Shape:
    spatial = shape[1:]
    if not len(spatial) == len(kernel) == len(stride) == len(pads) or len(spatial) not in (1, 2):
        raise PlanError(
            f"input {shape} needs one kernel size, stride and padding for each of its one or two "
            f"spatial axes, got kernel {kernel}, stride {stride}, pads {pads}"
        )
    sizes = []
    for length, size, step, (before, after) in zip(spatial, kernel, stride, pads, strict=True):
        padded = length + before + after
        if size > padded:
            raise PlanError(f"a window of {kernel} does not fit the input {shape} with pads {pads}")
        sizes.append((padded - size) // step + 1)
    return tuple(sizes)
