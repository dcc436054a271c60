"""Normalisation layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedsparse.errors import PlanError
from fedsparse.plan.operator import Operator, Role, Shape, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Operator):
    """Batch normalisation over batch and space, with running statistics as torch keeps them."""

    kind: ClassVar[str] = "batch_norm"
    eps: float = 1e-5
    momentum: float = 0.1

    @property
    def normalises_batch(self) -> bool:
        """See `Operator`."""
        return True

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Scale, shift, running mean, running variance (unbiased), each `(channels,)`."""
        shape = inputs[0][:1]
        return (
            *_affine(node, shape),
            Tensor(name=f"{node}.running_mean", shape=shape, role=Role.RUNNING_MEAN),
            Tensor(name=f"{node}.running_var", shape=shape, role=Role.RUNNING_VAR),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNorm(Operator):
    """Normalisation of each sample over space and the channels of a group (biased variance)."""

    kind: ClassVar[str] = "group_norm"
    groups: int
    eps: float = 1e-5

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The input's; its channels must divide by `groups`."""
        channels = inputs[0][0]
        if self.groups < 1 or channels % self.groups:
            raise PlanError(f"{channels} channels must divide by groups = {self.groups}")
        return inputs[0]

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Scale and shift, each `(channels,)`."""
        return _affine(node, inputs[0][:1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(Operator):
    """Normalisation of each sample over its last `axes` axes (biased variance)."""

    kind: ClassVar[str] = "layer_norm"
    axes: int
    eps: float = 1e-5

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The input's; it must have so many axes, the channels' included."""
        if not 1 <= self.axes <= len(inputs[0]):
            raise PlanError(
                f"layer_norm over the last {self.axes} axes of {inputs[0]}: it has "
                f"{len(inputs[0])}, the batch does not count"
            )
        return inputs[0]

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """Scale and shift, each of the shape of those axes (torch's `normalized_shape`)."""
        return _affine(node, inputs[0][-self.axes :])


def _affine(node: str, shape: Shape) -> tuple[Tensor, Tensor]:
    return (
        Tensor(name=f"{node}.weight", shape=shape, role=Role.SCALE),
        Tensor(name=f"{node}.bias", shape=shape, role=Role.SHIFT),
    )
