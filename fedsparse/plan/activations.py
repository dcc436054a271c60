"""Elementwise functions, each named and defined as in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedsparse.plan.operator import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(Operator):
    """`max(x, 0)`."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu6(Operator):
    """`min(max(x, 0), 6)`."""

    kind: ClassVar[str] = "relu6"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakyRelu(Operator):
    """`x` where it is positive, else `slope * x`; the slope is not negative."""

    kind: ClassVar[str] = "leaky_relu"
    slope: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigmoid(Operator):
    """`1 / (1 + exp(-x))`."""

    kind: ClassVar[str] = "sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tanh(Operator):
    """`tanh(x)`."""

    kind: ClassVar[str] = "tanh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silu(Operator):
    """`x * sigmoid(x)`."""

    kind: ClassVar[str] = "silu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gelu(Operator):
    """`x * Phi(x)`, or with `approximate` its form with tanh.

    Exact: `0.5 x (1 + erf(x / sqrt(2)))`; approximate:
    `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    """

    kind: ClassVar[str] = "gelu"
    approximate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HardSigmoid(Operator):
    """`min(max(x / 6 + 1 / 2, 0), 1)`."""

    kind: ClassVar[str] = "hard_sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class HardSwish(Operator):
    """`x * hard_sigmoid(x)`."""

    kind: ClassVar[str] = "hard_swish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout(Operator):
    """In training each element is zeroed with probability `p`, the others divided by `1 - p`.

    In inference it changes nothing. The draws are new in every step.
    """

    kind: ClassVar[str] = "dropout"
    p: float = 0.5
