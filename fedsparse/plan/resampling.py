"""Operators that change the spatial sizes of a feature map and own no parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedsparse.errors import PlanError
from fedsparse.plan.operator import Operator, Shape
from fedsparse.plan.window import Pads, slide


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
        return (inputs[0][0], *slide(inputs[0], self.kernel, self.stride, self.pads))


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
class Upsample(Operator):
    """Nearest neighbour: every position becomes a block of `scale` equal ones."""

    kind: ClassVar[str] = "upsample"
    scale: tuple[int, ...]

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """`(channels, *spatial)`, each axis times its scale."""
        channels, *spatial = inputs[0]
        if len(spatial) not in (1, 2) or len(spatial) != len(self.scale):
            raise PlanError(
                f"input {inputs[0]} needs one scale for each of its one or two spatial axes, got "
                f"{self.scale}"
            )
        grown = (size * scale for size, scale in zip(spatial, self.scale, strict=True))
        return (channels, *grown)
