"""What every operator declares: the shape of its output, and its parameters.

Shapes carry no batch dimension: `(channels, *spatial)` of a feature map, `(features,)` of a vector.
Adding an operator means a class in this package and its entry in `operators.OPERATORS`, its kernels
in an engine, and its rules in the importers and the exporter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

Shape = tuple[int, ...]


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
    """Base of all operators; the fields of a subclass are its attributes in the plan file.

    Attributes:
        arity: inputs that it reads; the least number where it is `variadic`.
        variadic: whether it may read more.
    """

    kind: ClassVar[str] = ""
    arity: ClassVar[int] = 1
    variadic: ClassVar[bool] = False

    @property
    def normalises_batch(self) -> bool:
        """Whether a sample's result in training depends on the other samples of its batch."""
        return False

    def reads(self, count: int) -> bool:
        """Whether it can be given this number of inputs."""
        return count >= self.arity if self.variadic else count == self.arity

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Shape of the output for these input shapes; raises `PlanError` when they do not fit."""
        return inputs[0]

    def tensors(self, node: str, inputs: tuple[Shape, ...]) -> tuple[Tensor, ...]:
        """The parameters that a node of this kind owns, in plan order."""
        return ()
