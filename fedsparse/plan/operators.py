"""All operators by their kind, and their attributes in the plan file."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

from fedsparse.errors import PlanError
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
from fedsparse.plan.norms import BatchNorm, GroupNorm, LayerNorm
from fedsparse.plan.opaque import GraphModel, parse_graph_model
from fedsparse.plan.operator import Operator
from fedsparse.plan.resampling import AvgPool, GlobalAvgPool, MaxPool, Upsample
from fedsparse.plan.weighted import Conv, Linear

OPERATORS: Final[dict[str, type[Operator]]] = {
    operator.kind: operator
    for operator in (
        Linear, Conv, BatchNorm, GroupNorm, LayerNorm,
        Relu, Relu6, LeakyRelu, Sigmoid, Tanh, Silu, Gelu, HardSigmoid, HardSwish, Dropout,
        MaxPool, AvgPool, GlobalAvgPool, Upsample, Add, Mul, Concat, Flatten,
    )
}  # fmt: skip


def to_attributes(operator: Operator) -> dict[str, Any]:
    """The JSON attributes of an operator."""
    return {field.name: getattr(operator, field.name) for field in dataclasses.fields(operator)}


def from_attributes(kind: str, attributes: dict[str, Any], where: str) -> Operator:
    """Build an operator from JSON attributes; raises `PlanError` naming `where`."""
    if kind == GraphModel.kind:
        return parse_graph_model(attributes, where)
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
    for name, value in checked.items():
        if not _is_good(name, value):
            raise PlanError(f"{where}: {kind} cannot have {name}={value!r}")
    return OPERATORS[kind](**checked)


def _checked(where: str, value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return tuple(_checked(where, item) for item in value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise PlanError(f"{where}: expected a number, a boolean or a list of them, got {value!r}")


def _is_good(name: str, value: object) -> bool:
    """Whether an attribute has a type and a sign that arithmetic can use."""
    if name in ("out_features", "out_channels", "groups", "axes"):
        return _is_count(value, 1)
    if name in ("kernel", "stride", "dilation", "scale"):
        return isinstance(value, tuple) and value != () and all(_is_count(i, 1) for i in value)
    if name == "pads":
        return isinstance(value, tuple) and all(
            isinstance(pair, tuple) and len(pair) == 2 and all(_is_count(i, 0) for i in pair)
            for pair in value
        )
    if name in ("bias", "prunable", "approximate"):
        return isinstance(value, bool)
    limit = 1 if name == "p" else 2**31
    return type(value) in (float, int) and 0 <= value < limit  # type: ignore[operator]


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**31
