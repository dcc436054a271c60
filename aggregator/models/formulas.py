"""Activations that a graph writes out, recognised by their values.

Every exporter has its own way to write GELU or hard-swish, and users have theirs: `x * relu6(x + 3)
/ 6`. A chain of elementwise operators with scalar constants is a function of one number; if its
values are those of an activation that plans have, it is that activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from fedsparse.plan import (
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Operator,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
)
from fedsparse.types import Float64Array

# Far enough for what saturates, close enough to tell the two forms of GELU apart (5e-4 near 2.2).
POINTS: Final = np.concatenate([np.linspace(-12.0, 12.0, 193), np.array([1e-3, -1e-3, 40.0])])
TOLERANCE: Final = 1e-4
LONGEST: Final = 16  # nodes of a formula; the tanh form of GELU takes 9

T = TypeVar("T", bound=Hashable)


def _hard_sigmoid(x: Float64Array) -> Float64Array:
    gate: Float64Array = np.clip(x / 6 + 0.5, 0, 1)
    return gate


def _sigmoid(x: Float64Array) -> Float64Array:
    gate: Float64Array = 0.5 * (1 + np.tanh(x / 2))
    return gate


def _gelu(x: Float64Array) -> Float64Array:
    values: Float64Array = 0.5 * x * (1 + np.array([math.erf(one / math.sqrt(2)) for one in x]))
    return values


def _tanh_gelu(x: Float64Array) -> Float64Array:
    values: Float64Array = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return values


ACTIVATIONS: Final[tuple[tuple[Operator, Float64Array], ...]] = (
    (Relu(), np.maximum(POINTS, 0)),
    (Relu6(), np.clip(POINTS, 0, 6)),
    (Sigmoid(), _sigmoid(POINTS)),
    (Tanh(), np.tanh(POINTS)),
    (Silu(), POINTS * _sigmoid(POINTS)),
    (Gelu(), _gelu(POINTS)),
    (Gelu(approximate=True), _tanh_gelu(POINTS)),
    (HardSigmoid(), _hard_sigmoid(POINTS)),
    (HardSwish(), POINTS * _hard_sigmoid(POINTS)),
)


def recognise(values: Float64Array) -> Operator | None:
    """The activation that has these values at `POINTS`, if there is one."""
    if values.shape != POINTS.shape or not np.isfinite(values).all():
        return None
    for operator, wanted in ACTIVATIONS:
        if np.abs(values - wanted).max() <= TOLERANCE:
            return operator
    slope = float(f"{values[0] / POINTS[0]:.6g}")
    if 0 < slope < 1 and np.allclose(values, np.where(POINTS > 0, POINTS, slope * POINTS)):
        return LeakyRelu(slope=slope)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula(Generic[T]):
    """A value of a graph that is an activation of an earlier one, its `root`."""

    root: T
    operator: Operator


def find_formulas(
    nodes: Sequence[tuple[T, Sequence[T]]],
    compute: Callable[[T, T, Float64Array], Float64Array | None],
) -> dict[T, Formula[T]]:
    """The activations of a graph by the value that they yield.

    Args:
        nodes: of each elementwise node its value and the values that it reads (scalar constants
            left out), in the order of the graph.
        compute: `compute(value, root, points)`: what `value` is where `root` is `points`; None
            where that cannot be said.
    """
    roots: dict[T, list[T]] = {}  # the values of which one is a function, the nearest first
    found = {}
    for value, inputs in nodes:
        first, *others = ([source, *roots.get(source, ())] for source in inputs)
        shared = [root for root in first if all(root in other for other in others)]
        roots[value] = shared[:LONGEST]
        for root in roots[value]:
            values = compute(value, root, POINTS)
            operator = None if values is None else recognise(values)
            if operator is not None:
                found[value] = Formula(root=root, operator=operator)
                break
    return found
