"""How large the inputs of each layer are at the start: second moments, from the plan alone.

He's initialisation takes a layer's inputs to be rectified normal numbers, of second moment 1/2.
Behind max pooling they are larger (the largest of nine has 2.6), and each such layer amplifies:
with two of them MNISTNet begins at logits that no usual learning rate survives. Here every operator
hands on mean and variance, taking what it reads for independent normal numbers; neighbours in a
window are alike, so that pooled layers begin with a little less than variance 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fedsparse.plan import (
    INPUT,
    Add,
    AvgPool,
    Concat,
    Gelu,
    GlobalAvgPool,
    GraphModel,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    MaxPool,
    Mul,
    Node,
    Operator,
    Plan,
    Relu,
    Relu6,
    Role,
    Sigmoid,
    Silu,
    Tanh,
    Tensor,
)
from fedsparse.types import Float64Array

RECTIFIED: Final = 0.5  # second moment of a rectified standard normal number
_GRID: Final = np.linspace(-8.0, 8.0, 1601)  # standard deviations
_DENSITY: Final = np.exp(-0.5 * _GRID**2) / math.sqrt(2 * math.pi)
_BELOW: Final = np.cumsum(_DENSITY) * (_GRID[1] - _GRID[0])

Curve = Callable[[Float64Array], Float64Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Of one activation, over samples and positions."""

    mean: float = 0.0
    variance: float = 1.0

    @property
    def second(self) -> float:
        """The mean of the square."""
        return self.mean**2 + self.variance


def input_moments(plan: Plan) -> dict[str, float]:
    """For each weight tensor the second moment of what it multiplies, by its name.

    Samples have mean 0 and variance 1, and so has what a weighted layer or a normalisation yields:
    the first is what `initial_weights` sees to.

    Source: He et al. 2015, section 2.2, carried on through pooling, sums and other activations.
    """
    found: dict[str, Moments] = {INPUT: Moments()}
    seconds: dict[str, float] = {}
    for node in plan.nodes:
        inputs = [found[name] for name in node.inputs]
        shapes = [plan.shapes[name] for name in node.inputs]
        found[node.name] = _through(node, inputs, [math.prod(shape) for shape in shapes], plan)
        for tensor in _tensors(node, plan):
            if tensor.role is Role.WEIGHT:
                opaque = isinstance(node.operator, GraphModel)
                seconds[tensor.name] = RECTIFIED if opaque else inputs[0].second
    return seconds


def _through(node: Node, inputs: list[Moments], sizes: list[int], plan: Plan) -> Moments:
    """What a node makes of its inputs."""
    operator = node.operator
    if (curve := _curve(operator)) is not None:
        return _expected(inputs[0], curve, _DENSITY)
    if isinstance(operator, (Add, Mul, Concat)):
        return _joined(operator, inputs, sizes)
    if isinstance(operator, AvgPool):  # before MaxPool, whose shape it has
        return _averaged(inputs[0], math.prod(operator.kernel))
    if isinstance(operator, GlobalAvgPool):
        return _averaged(inputs[0], sizes[0] // math.prod(plan.shapes[node.name]))
    if isinstance(operator, MaxPool):
        count = math.prod(operator.kernel)
        return _expected(inputs[0], lambda x: x, count * _DENSITY * _BELOW ** (count - 1))
    if any(tensor.role in (Role.WEIGHT, Role.SCALE) for tensor in _tensors(node, plan)):
        return Moments()
    return inputs[0]  # flatten, dropout, upsampling


def _expected(moments: Moments, curve: Curve, density: Float64Array) -> Moments:
    """Mean and variance of `curve(x)`, where `(x - mean) / deviation` has this density."""
    values = curve(moments.mean + math.sqrt(moments.variance) * _GRID)
    weights = density / density.sum()
    mean = float(weights @ values)
    return Moments(mean=mean, variance=max(float(weights @ np.square(values)) - mean**2, 0.0))


def _averaged(moments: Moments, count: int) -> Moments:
    return Moments(mean=moments.mean, variance=moments.variance / max(1, count))


def _joined(operator: Operator, inputs: list[Moments], sizes: list[int]) -> Moments:
    if isinstance(operator, Add):
        return Moments(
            mean=sum(one.mean for one in inputs), variance=sum(one.variance for one in inputs)
        )
    if isinstance(operator, Mul):
        mean = math.prod(one.mean for one in inputs)
        return Moments(mean=mean, variance=math.prod(one.second for one in inputs) - mean**2)
    total = sum(sizes)
    mean = sum(one.mean * size for one, size in zip(inputs, sizes, strict=True)) / total
    second = sum(one.second * size for one, size in zip(inputs, sizes, strict=True)) / total
    return Moments(mean=mean, variance=second - mean**2)


def _curve(operator: Operator) -> Curve | None:
    """An activation as a function; None for another operator."""
    if isinstance(operator, LeakyRelu):
        slope = operator.slope
        return lambda x: np.where(x > 0, x, slope * x)
    return _CURVES.get(type(operator))


def _sigmoid(x: Float64Array) -> Float64Array:
    return 1.0 / (1.0 + np.exp(-x))


def _hard_sigmoid(x: Float64Array) -> Float64Array:
    clipped: Float64Array = np.clip(x / 6 + 0.5, 0.0, 1.0)
    return clipped


_CURVES: Final[Mapping[type[Operator], Curve]] = {
    Relu: lambda x: np.maximum(x, 0.0),
    Relu6: lambda x: np.clip(x, 0.0, 6.0),
    Sigmoid: _sigmoid,
    Tanh: np.tanh,
    Silu: lambda x: x * _sigmoid(x),
    Gelu: lambda x: 0.5 * x * (1.0 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    HardSigmoid: _hard_sigmoid,
    HardSwish: lambda x: x * _hard_sigmoid(x),
}


def _tensors(node: Node, plan: Plan) -> tuple[Tensor, ...]:
    return node.operator.tensors(node.name, tuple(plan.shapes[name] for name in node.inputs))
