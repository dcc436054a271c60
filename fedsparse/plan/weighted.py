"""Layers with a weight tensor that a mask may apply to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fedsparse.errors import PlanError
from fedsparse.plan.operator import Operator, Role, Shape, Tensor
from fedsparse.plan.window import Pads, slide


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
    """Cross-correlation over one or two spatial axes, zero padding.

    Attributes:
        dilation: steps between kernel positions, one for each axis; 1 everywhere if left out.
        groups: output channel `o` reads the input channels of its group alone: channels
            `[g * in/groups, (g + 1) * in/groups)` with `g = o // (out/groups)`, as in torch. The
            weight is `(out, in/groups, *kernel)`; depthwise: as many groups as input channels.
    """

    kind: ClassVar[str] = "conv"
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = True
    prunable: bool = True

    def __post_init__(self) -> None:
        if not self.dilation:
            object.__setattr__(self, "dilation", (1,) * len(self.kernel))

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(out_channels, *spatial)`."""
        channels = inputs[0][0]
        if self.groups < 1 or channels % self.groups or self.out_channels % self.groups:
            raise PlanError(
                f"{channels} input and {self.out_channels} output channels must both divide by "
                f"groups = {self.groups}"
            )
        spatial = slide(inputs[0], self.kernel, self.stride, self.pads, self.dilation)
        return (self.out_channels, *spatial)

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Weight, then bias."""
        channels = inputs[0][0] // self.groups
        shape = (self.out_channels, channels, *self.kernel)
        return _weighted(node, shape, channels * math.prod(self.kernel), self.bias, self.prunable)

    def is_depthwise(self, channels: int) -> bool:
        """Whether each output channel reads one of `channels` input channels."""
        return self.groups == channels > 1


def _weighted(
    node: str, shape: Shape, fan_in: int, bias: bool, prunable: bool
) -> tuple[Tensor, ...]:
    weight = Tensor(
        name=f"{node}.weight", shape=shape, role=Role.WEIGHT, prunable=prunable, fan_in=fan_in
    )
    if not bias:
        return (weight,)
    return (weight, Tensor(name=f"{node}.bias", shape=shape[:1], role=Role.BIAS, fan_in=fan_in))
