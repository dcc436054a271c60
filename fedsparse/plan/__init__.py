"""A model as data: operators, shapes and parameters, in one order for gateway and device."""

from fedsparse.plan.operators import (
    OPERATORS,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Operator,
    Relu,
    Role,
    Shape,
    Tensor,
)
from fedsparse.plan.plan import INPUT, Node, Plan

__all__ = [
    "INPUT",
    "OPERATORS",
    "Add",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "Flatten",
    "GlobalAvgPool",
    "Linear",
    "MaxPool",
    "Node",
    "Operator",
    "Plan",
    "Relu",
    "Role",
    "Shape",
    "Tensor",
]
