"""A model as data: operators, shapes, parameters and loss, in one order for gateway and device."""

from fedsparse.plan.activations import (
    Dropout,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
)
from fedsparse.plan.joins import Add, Concat, Flatten, Mul
from fedsparse.plan.loss import Loss
from fedsparse.plan.norms import BatchNorm, GroupNorm, LayerNorm
from fedsparse.plan.opaque import GraphModel
from fedsparse.plan.operator import Operator, Role, Shape, Tensor
from fedsparse.plan.operators import OPERATORS
from fedsparse.plan.plan import INPUT, Node, Plan
from fedsparse.plan.resampling import AvgPool, GlobalAvgPool, MaxPool, Upsample
from fedsparse.plan.weighted import Conv, Linear
from fedsparse.plan.window import Pads

__all__ = [
    "INPUT",
    "OPERATORS",
    "Add",
    "AvgPool",
    "BatchNorm",
    "Concat",
    "Conv",
    "Dropout",
    "Flatten",
    "Gelu",
    "GlobalAvgPool",
    "GraphModel",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "LayerNorm",
    "LeakyRelu",
    "Linear",
    "Loss",
    "MaxPool",
    "Mul",
    "Node",
    "Operator",
    "Pads",
    "Plan",
    "Relu",
    "Relu6",
    "Role",
    "Shape",
    "Sigmoid",
    "Silu",
    "Tanh",
    "Tensor",
    "Upsample",
]
