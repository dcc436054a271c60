"""ONNX of elementwise aten operators, with torch's promotion of types."""

from __future__ import annotations

import math
from typing import Any, Final

import torch

from aggregator.models.graph.emitter import Call, Emitter, Rule
from fedsparse.errors import PlanError


def _arithmetic(operator: str) -> Rule:
    def rule(emitter: Emitter, call: Call) -> str:
        dtype = call.out.dtype
        left, right = call["self"], call["other"]
        scale = call.arguments.get("alpha", 1)
        second = emitter.tensor(right, dtype)
        if scale != 1:
            second = emitter.add("Mul", second, emitter.number(scale, dtype))
        first = emitter.tensor(left, dtype)
        if dtype == torch.bool:
            return emitter.add({"Add": "Or", "Mul": "And"}[operator], first, second)
        return emitter.add(operator, first, second)

    return rule


def _divide(emitter: Emitter, call: Call) -> str:
    dtype = call.out.dtype
    left, right = emitter.tensor(call["self"], dtype), emitter.tensor(call["other"], dtype)
    quotient = emitter.add("Div", left, right)
    mode = call.arguments.get("rounding_mode")
    if mode is None:
        return quotient
    if mode == "floor" and dtype.is_floating_point:
        return emitter.add("Floor", quotient)
    raise PlanError(f"division of {dtype} with rounding mode {mode!r}")


def _reversed_subtract(emitter: Emitter, call: Call) -> str:
    dtype = call.out.dtype
    return emitter.add(
        "Sub", emitter.tensor(call["other"], dtype), emitter.tensor(call["self"], dtype)
    )


def _compare(operator: str, *, negated: bool = False) -> Rule:
    def rule(emitter: Emitter, call: Call) -> str:
        left, right = (
            value.meta["val"] if isinstance(value, torch.fx.Node) else value
            for value in (call["self"], call["other"])
        )
        dtype = torch.result_type(left, right)
        if dtype == torch.bool:
            dtype = torch.int32
        names = (emitter.tensor(call["self"], dtype), emitter.tensor(call["other"], dtype))
        found = emitter.add(operator, *names)
        return emitter.add("Not", found) if negated else found

    return rule


def _logical(operator: str) -> Rule:
    def rule(emitter: Emitter, call: Call) -> str:
        if call.out.dtype != torch.bool:
            raise PlanError(f"bitwise arithmetic of {call.out.dtype}")
        names = [emitter.tensor(call[name], torch.bool) for name in ("self", "other")]
        return emitter.add(operator, *names)

    return rule


def _not(emitter: Emitter, call: Call) -> str:
    if call.out.dtype != torch.bool:
        raise PlanError(f"bitwise arithmetic of {call.out.dtype}")
    return emitter.add("Not", emitter.tensor(call["self"], torch.bool))


def _map(operator: str) -> Rule:
    return lambda emitter, call: emitter.add(operator, emitter.tensor(call["self"], call.out.dtype))


def _of(emitter: Emitter, call: Call) -> tuple[str, Any]:
    """The operand, and how to write a number of its type."""
    dtype = call.out.dtype
    return emitter.tensor(call["self"], dtype), lambda value: emitter.number(value, dtype)


def _rsqrt(emitter: Emitter, call: Call) -> str:
    return emitter.add("Reciprocal", emitter.add("Sqrt", _of(emitter, call)[0]))


def _log1p(emitter: Emitter, call: Call) -> str:
    x, number = _of(emitter, call)
    return emitter.add("Log", emitter.add("Add", x, number(1.0)))


def _expm1(emitter: Emitter, call: Call) -> str:
    x, number = _of(emitter, call)
    return emitter.add("Sub", emitter.add("Exp", x), number(1.0))


def _gelu(emitter: Emitter, call: Call) -> str:
    x, number = _of(emitter, call)
    if call["approximate"] == "tanh":
        cubed = emitter.add("Mul", emitter.add("Mul", x, x), x)
        inner = emitter.add("Add", x, emitter.add("Mul", cubed, number(0.044715)))
        bent = emitter.add("Tanh", emitter.add("Mul", inner, number(math.sqrt(2 / math.pi))))
    else:
        bent = emitter.add("Erf", emitter.add("Mul", x, number(math.sqrt(0.5))))
    half = emitter.add("Mul", x, number(0.5))
    return emitter.add("Mul", half, emitter.add("Add", bent, number(1.0)))


def _elu(emitter: Emitter, call: Call) -> str:
    x, number = _of(emitter, call)
    if call["input_scale"] != 1:
        raise PlanError("CELU with alpha other than 1")
    bent = emitter.add("Elu", x, alpha=float(call["alpha"]))
    return bent if call["scale"] == 1 else emitter.add("Mul", bent, number(call["scale"]))


def _leaky_relu(emitter: Emitter, call: Call) -> str:
    return emitter.add("LeakyRelu", _of(emitter, call)[0], alpha=float(call["negative_slope"]))


def _clip(least: str, most: str) -> Rule:
    def rule(emitter: Emitter, call: Call) -> str:
        x, number = _of(emitter, call)
        bounds = ["" if call[name] is None else number(call[name]) for name in (least, most)]
        return emitter.add("Clip", x, *bounds)

    return rule


def _power(emitter: Emitter, call: Call) -> str:
    x, number = _of(emitter, call)
    exponent = call["exponent"]
    if exponent == 2:
        return emitter.add("Mul", x, x)
    if isinstance(exponent, torch.fx.Node):
        return emitter.add("Pow", x, emitter.tensor(exponent, call.out.dtype))
    return emitter.add("Pow", x, number(exponent))


def _where(emitter: Emitter, call: Call) -> str:
    dtype = call.out.dtype
    chosen, other = (emitter.tensor(call[name], dtype) for name in ("self", "other"))
    return emitter.add("Where", emitter.tensor(call["condition"], torch.bool), chosen, other)


ELEMENTWISE: Final[dict[str, Rule]] = {
    **{f"{name}.{kind}": _arithmetic(operator)
       for name, operator in (("add", "Add"), ("sub", "Sub"), ("mul", "Mul"))
       for kind in ("Tensor", "Scalar")},
    "div.Tensor": _divide, "div.Scalar": _divide, "div.Tensor_mode": _divide,
    "rsub.Scalar": _reversed_subtract, "rsub.Tensor": _reversed_subtract,
    "maximum": _arithmetic("Max"), "minimum": _arithmetic("Min"),
    **{f"{name}.{kind}": _compare(operator, negated=name == "ne")
       for name, operator in (("eq", "Equal"), ("ne", "Equal"), ("lt", "Less"),
                              ("le", "LessOrEqual"), ("gt", "Greater"), ("ge", "GreaterOrEqual"))
       for kind in ("Tensor", "Scalar")},
    "bitwise_and.Tensor": _logical("And"), "logical_and": _logical("And"),
    "bitwise_or.Tensor": _logical("Or"), "logical_or": _logical("Or"),
    "bitwise_xor.Tensor": _logical("Xor"), "logical_xor": _logical("Xor"),
    "bitwise_not": _not, "logical_not": _not,
    **{name: _map(operator) for name, operator in (
        ("relu", "Relu"), ("neg", "Neg"), ("exp", "Exp"), ("log", "Log"), ("sqrt", "Sqrt"),
        ("reciprocal", "Reciprocal"), ("abs", "Abs"), ("sign", "Sign"), ("sin", "Sin"),
        ("cos", "Cos"), ("tan", "Tan"), ("tanh", "Tanh"), ("sigmoid", "Sigmoid"), ("erf", "Erf"),
        ("floor", "Floor"), ("ceil", "Ceil"), ("round", "Round"), ("atan", "Atan"),
        ("asin", "Asin"), ("acos", "Acos"), ("sinh", "Sinh"), ("cosh", "Cosh"))},
    "rsqrt": _rsqrt, "log1p": _log1p, "expm1": _expm1,
    "gelu": _gelu, "elu": _elu, "leaky_relu": _leaky_relu,
    "clamp": _clip("min", "max"), "hardtanh": _clip("min_val", "max_val"),
    "pow.Tensor_Scalar": _power, "pow.Tensor_Tensor": _power,
    "where.self": _where,
}  # fmt: skip
