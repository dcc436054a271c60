"""ONNX of aten operators that make, view, cut and join tensors, and of reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from aggregator.models.graph.emitter import Call, Emitter, Rule, concrete, is_free, product
from fedsparse.errors import PlanError


def _same(emitter: Emitter, call: Call) -> str:
    return emitter.tensor(call["self"], call.out.dtype)


def _copy(emitter: Emitter, call: Call) -> str:
    return emitter.add(
        "Expand", emitter.tensor(call["src"], call.out.dtype), emitter.sizes(call.out.shape)
    )


def _view(emitter: Emitter, call: Call) -> str:
    return emitter.reshape(emitter.value(call["self"]), call.out.shape)


def _filled(argument: str | None, value: float = 0.0) -> Rule:
    def rule(emitter: Emitter, call: Call) -> str:
        shape, number = call.out.shape, call[argument] if argument else value
        one = emitter.number(number, call.out.dtype)
        return one if len(shape) == 0 else emitter.add("Expand", one, emitter.sizes(shape))

    return rule


def _arange(emitter: Emitter, call: Call) -> str:
    start, end, step = (call.arguments.get(name, default) for name, default in (
        ("start", 0), ("end", None), ("step", 1)))  # fmt: skip
    if not any(is_free(value) for value in (start, end, step)):
        values = torch.arange(start, end, step, dtype=call.out.dtype)
        return emitter.constant(values.numpy())
    return emitter.add("Range", *(emitter.number(v, call.out.dtype) for v in (start, end, step)))


def _permute(emitter: Emitter, call: Call) -> str:
    axes = [axis % call.out.dim() for axis in call["dims"]]
    x = emitter.value(call["self"])
    return x if axes == sorted(axes) else emitter.add("Transpose", x, perm=axes)


def _expand(emitter: Emitter, call: Call) -> str:
    source = call.meta("self").shape
    if len(source) == len(call.out.shape) and list(source) == list(call.out.shape):
        return emitter.value(call["self"])
    return emitter.add("Expand", emitter.value(call["self"]), emitter.sizes(call.out.shape))


def _slice(emitter: Emitter, call: Call) -> str:
    axis = call["dim"] % call.out.dim()
    start, end, step = call["start"] or 0, call["end"], call["step"]
    return _cut(emitter, emitter.value(call["self"]), axis, start, end, step)


def _cut(emitter: Emitter, x: str, axis: int, start: Any, end: Any, step: int = 1) -> str:  # noqa: ANN401
    end = np.iinfo(np.int64).max if end is None else end
    return emitter.add(
        "Slice", x, emitter.sizes([start]), emitter.sizes([end]), emitter.ints([axis]),
        emitter.ints([step]),
    )  # fmt: skip


def _select(emitter: Emitter, call: Call) -> str:
    axis = call["dim"] % call.meta("self").dim()
    index = emitter.number(call["index"], torch.int64)
    return emitter.add("Gather", emitter.value(call["self"]), index, axis=axis)


def _slice_scatter(emitter: Emitter, call: Call) -> str:
    axis = call["dim"] % call.out.dim()
    if call["step"] != 1:
        raise PlanError("an assignment to a slice with a step")
    return _assigned(emitter, call, emitter.value(call["src"]), axis, call["start"], call["end"])


def _select_scatter(emitter: Emitter, call: Call) -> str:
    axis, index = call["dim"] % call.out.dim(), int(call["index"])
    size = concrete([call.out.shape[axis]])[0]
    sizes = [1 if i == axis else n for i, n in enumerate(call.out.shape)]
    source = emitter.reshape(emitter.value(call["src"]), sizes)
    return _assigned(emitter, call, source, axis, index % size, index % size + 1)


def _assigned(
    emitter: Emitter, call: Call, source: str, axis: int, start: int | None, end: int | None
) -> str:
    """`self` with the part from `start` to `end` replaced."""
    size = call.out.shape[axis]
    first, last, _ = slice(start, end).indices(2**62 if is_free(size) else int(size))
    x = emitter.value(call["self"])
    parts = [_cut(emitter, x, axis, 0, first)] if first > 0 else []
    parts.append(source)
    if (is_free(size) and last < 2**62) or (not is_free(size) and last < int(size)):
        parts.append(_cut(emitter, x, axis, last, None))
    return emitter.add("Concat", *parts, axis=axis) if len(parts) > 1 else source


def _cat(emitter: Emitter, call: Call) -> str:
    tensors = [t for t in call["tensors"] if tuple(t.meta["val"].shape) != (0,)]
    names = [emitter.tensor(tensor, call.out.dtype) for tensor in tensors]
    axis = call["dim"] % call.out.dim()
    return emitter.add("Concat", *names, axis=axis) if len(names) > 1 else names[0]


def _split(emitter: Emitter, call: Call) -> tuple[str, ...]:
    sizes = concrete(call["split_sizes"])
    axis = call["dim"] % call.out.dim()
    inputs = (emitter.value(call["self"]), emitter.ints(sizes))
    return emitter.add_many("Split", inputs, len(sizes), axis=axis)


def _flip(emitter: Emitter, call: Call) -> str:
    axes = [axis % call.out.dim() for axis in call["dims"]]
    return emitter.add(
        "Slice", emitter.value(call["self"]), emitter.ints([-1] * len(axes)),
        emitter.ints([-(2**62)] * len(axes)), emitter.ints(axes), emitter.ints([-1] * len(axes)),
    )  # fmt: skip


def _repeat(emitter: Emitter, call: Call) -> str:
    source, repeats = call.meta("self").shape, call["repeats"]
    sizes = [1] * (len(repeats) - len(source)) + list(source)
    return emitter.add(
        "Tile", emitter.reshape(emitter.value(call["self"]), sizes), emitter.sizes(repeats)
    )


def _pad(emitter: Emitter, call: Call) -> str:
    pads = concrete(call["pad"])
    axes = call.out.dim()
    before, after = [0] * axes, [0] * axes
    for place, (first, last) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        before[axes - 1 - place], after[axes - 1 - place] = first, last
    return emitter.add(
        "Pad", emitter.value(call["self"]), emitter.ints(before + after),
        emitter.number(call["value"], call.out.dtype),
    )  # fmt: skip


def _axes(call: Call) -> list[int]:
    source, dims = call.meta("self").dim(), call.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    return [axis % source for axis in dims] if dims else list(range(source))


def _reduce(operator: str) -> Rule:
    def rule(emitter: Emitter, call: Call) -> str:
        x = emitter.tensor(call["self"], call.out.dtype)
        keep = int(bool(call.arguments.get("keepdim", False)))
        if not call.meta("self").dim():
            return x
        return emitter.add(operator, x, emitter.ints(_axes(call)), keepdims=keep)

    return rule


def _any(emitter: Emitter, call: Call) -> str:
    whole = emitter.cast(emitter.value(call["self"]), call.meta("self").dtype, torch.int32)
    keep = int(bool(call.arguments.get("keepdim", False)))
    most = emitter.add("ReduceMax", whole, emitter.ints(_axes(call)), keepdims=keep)
    return emitter.cast(most, torch.int32, torch.bool)


def _variance(emitter: Emitter, call: Call) -> tuple[str, str]:
    """Variance and mean, with `correction` taken off the count."""
    x, axes = emitter.value(call["self"]), _axes(call)
    correction = 1 if call["correction"] is None else call["correction"]
    keep = int(bool(call["keepdim"]))
    names = emitter.ints(axes)
    centred = emitter.add("Sub", x, emitter.add("ReduceMean", x, names, keepdims=1))
    squares = emitter.add("ReduceSum", emitter.add("Mul", centred, centred), names, keepdims=keep)
    count = product([call.meta("self").shape[axis] for axis in axes]) - correction
    var = emitter.add("Div", squares, emitter.number(count, call.out.dtype))
    return var, emitter.add("ReduceMean", x, names, keepdims=keep)


def _cumulative_sum(emitter: Emitter, call: Call) -> str:
    axis = emitter.number(call["dim"], torch.int64)
    return emitter.add("CumSum", emitter.tensor(call["self"], call.out.dtype), axis)


def _arg_max(emitter: Emitter, call: Call) -> str:
    if call["dim"] is None:
        raise PlanError("argmax over everything")
    keep = int(bool(call["keepdim"]))
    return emitter.add("ArgMax", emitter.value(call["self"]), axis=call["dim"], keepdims=keep)


def _softmax(operator: str) -> Rule:
    return lambda emitter, call: emitter.add(
        operator, emitter.value(call["self"]), axis=call["dim"]
    )


def _each(rule: Rule, names: Sequence[str]) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


SHAPE: Final[dict[str, Rule]] = {
    **_each(_same, ["clone", "alias", "detach", "_to_copy", "lift_fresh_copy"]),
    **_each(_view, ["view", "_unsafe_view", "unsqueeze", "squeeze.dims", "squeeze.dim", "squeeze"]),
    "copy": _copy,
    "full": _filled("fill_value"), "full_like": _filled("fill_value"),
    "scalar_tensor": _filled("s"),
    **_each(_filled(None), ["empty.memory_format", "empty_permuted", "new_zeros", "zeros"]),
    "arange.start_step": _arange,
    "permute": _permute, "expand": _expand, "slice.Tensor": _slice, "select.int": _select,
    "slice_scatter": _slice_scatter, "select_scatter": _select_scatter,
    "cat": _cat, "split_with_sizes": _split, "flip": _flip, "repeat": _repeat,
    "constant_pad_nd": _pad,
    "sum.dim_IntList": _reduce("ReduceSum"), "mean.dim": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"), "mean": _reduce("ReduceMean"),
    "amax": _reduce("ReduceMax"), "amin": _reduce("ReduceMin"),
    "prod.dim_int": _reduce("ReduceProd"),
    "any.dim": _any, "any": _any, "any.dims": _any,
    "var.correction": lambda emitter, call: _variance(emitter, call)[0],
    "var_mean.correction": _variance,
    "cumsum": _cumulative_sum, "argmax": _arg_max,
    "_softmax": _softmax("Softmax"), "_log_softmax": _softmax("LogSoftmax"),
}  # fmt: skip
