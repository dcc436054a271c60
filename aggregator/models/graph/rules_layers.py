"""ONNX of products, convolutions, pools, norms, and of reading and writing at indices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from aggregator.models.graph.emitter import Call, Emitter, Rule, concrete, is_free
from fedsparse.errors import PlanError


def _matrix(emitter: Emitter, node: Any) -> tuple[str, int]:  # noqa: ANN401
    """A matrix, and 1 where its transpose is to be used instead: `Gemm` reads it that way."""
    is_permuted = str(node.target) == "aten.permute.default"
    if is_permuted and [axis % 2 for axis in node.args[1]] == [1, 0]:
        return emitter.value(node.args[0]), 1
    return emitter.value(node), 0


def _mm(emitter: Emitter, call: Call) -> str:
    (left, first), (right, second) = (_matrix(emitter, call[name]) for name in ("self", "mat2"))
    return emitter.add("Gemm", left, right, transA=first, transB=second)


def _addmm(emitter: Emitter, call: Call) -> str:
    (left, first), (right, second) = (_matrix(emitter, call[name]) for name in ("mat1", "mat2"))
    return emitter.add(
        "Gemm", left, right, emitter.value(call["self"]), transA=first, transB=second,
        alpha=float(call["alpha"]), beta=float(call["beta"]),
    )  # fmt: skip


def _bmm(emitter: Emitter, call: Call) -> str:
    return emitter.add("MatMul", emitter.value(call["self"]), emitter.value(call["mat2"]))


def _convolution(emitter: Emitter, call: Call) -> str:
    axes = call.meta("weight").dim() - 2
    stride, padding, dilation, rest = (
        _each(concrete(call[name]), axes)
        for name in ("stride", "padding", "dilation", "output_padding")
    )
    inputs = [emitter.value(call["input"]), emitter.value(call["weight"])]
    if call["bias"] is not None:
        inputs.append(emitter.value(call["bias"]))
    attributes = {
        "strides": stride, "pads": padding * 2, "dilations": dilation, "group": call["groups"],
    }  # fmt: skip
    if call["transposed"]:
        return emitter.add("ConvTranspose", *inputs, output_padding=rest, **attributes)
    return emitter.add("Conv", *inputs, **attributes)


def _tap_products(emitter: Emitter, call: Call) -> str:
    """For each kernel position, the outputs' gradients times the inputs that it reads."""
    shape, groups = list(call["shape"]), call["groups"]
    out, channels, kernel = shape[0], shape[1], shape[2:]
    source, result = call.meta("x"), call.meta("gradient")
    x, gradient = emitter.value(call["x"]), emitter.value(call["gradient"])
    depthwise = channels == 1 and out == groups > 1
    if not depthwise:
        x = _groups_first(emitter, x, source.shape, groups)
        gradient = _groups_first(emitter, gradient, result.shape, groups)
        gradient = emitter.add("Reshape", gradient, emitter.ints(_flat(groups, out // groups)))
    spatial = [source.dim() + 1 - len(kernel) + i for i in range(len(kernel))]
    spatial = [axis - (1 if depthwise or groups == 1 else 0) for axis in spatial]
    counts = concrete(result.shape[2:])
    taps = []
    for position in itertools.product(*map(range, kernel)):
        starts = [at * apart for at, apart in zip(position, call["dilation"], strict=True)]
        ends = [
            start + (count - 1) * step + 1
            for start, count, step in zip(starts, counts, call["stride"], strict=True)
        ]
        tap = emitter.add(
            "Slice", x, emitter.ints(starts), emitter.ints(ends), emitter.ints(spatial),
            emitter.ints(call["stride"]),
        )  # fmt: skip
        if depthwise:
            both = emitter.add("Mul", gradient, tap)
            axes = emitter.ints([0, *range(2, source.dim())])
            found = emitter.add("ReduceSum", both, axes, keepdims=0)
        elif groups == 1:
            tap = emitter.add("Reshape", tap, emitter.ints([channels, -1]))
            found = emitter.add("Gemm", gradient, tap, transB=1)
        else:
            tap = emitter.add("Reshape", tap, emitter.ints([groups, channels, -1]))
            turned = emitter.add("Transpose", tap, perm=[0, 2, 1])
            found = emitter.add("MatMul", gradient, turned)
        taps.append(emitter.add("Reshape", found, emitter.ints([out, channels, 1])))
    joined = emitter.add("Concat", *taps, axis=2) if len(taps) > 1 else taps[0]
    return emitter.add("Reshape", joined, emitter.ints(shape))


def _flat(groups: int, rows: int) -> list[int]:
    return [rows, -1] if groups == 1 else [groups, rows, -1]


def _groups_first(emitter: Emitter, x: str, sizes: Sequence[Any], groups: int) -> str:
    """`(batch, channels, *spatial)` to `(channels, batch, *spatial)`, with groups before that."""
    axes = len(sizes)
    if groups == 1:
        return emitter.add("Transpose", x, perm=[1, 0, *range(2, axes)])
    rest = concrete(sizes[1:])
    split = emitter.add("Reshape", x, emitter.ints([-1, groups, rest[0] // groups, *rest[1:]]))
    return emitter.add("Transpose", split, perm=[1, 2, 0, *range(3, axes + 1)])


def _max_pool(emitter: Emitter, call: Call) -> tuple[str, str]:
    """ONNX counts an index through the whole tensor, torch within its plane."""
    if call["ceil_mode"]:
        raise PlanError("max-pool with ceil_mode")
    attributes = _window(call) | {"dilations": _each(concrete(call["dilation"]), 2)}
    # ORT derives the row-major index of the input without its padding, which is torch's.
    pooled, indices = emitter.add_many("MaxPool", [emitter.value(call["self"])], 2, **attributes)
    plane = emitter.ints([int(np.prod(concrete(call.meta("self").shape[-2:])))])
    return pooled, emitter.add("Mod", indices, plane)


def _avg_pool(emitter: Emitter, call: Call) -> str:
    if call["ceil_mode"] or call["divisor_override"]:
        raise PlanError("average-pool with ceil_mode or divisor_override")
    return emitter.add(
        "AveragePool", emitter.value(call["self"]),
        count_include_pad=int(call["count_include_pad"]), **_window(call),
    )  # fmt: skip


def _window(call: Call) -> dict[str, list[int]]:
    kernel = _each(concrete(call["kernel_size"]), 2)
    stride = _each(concrete(call["stride"]), 2) if call["stride"] else kernel
    padding = _each(concrete(call["padding"]), 2)
    return {"kernel_shape": kernel, "strides": stride, "pads": padding * 2}


def _each(sizes: Sequence[int], axes: int) -> list[int]:
    return list(sizes) * axes if len(sizes) == 1 else list(sizes)


def _batch_norm(emitter: Emitter, call: Call) -> tuple[str, ...]:
    channels = concrete(call.meta("input").shape[1:2])
    scale, shift = _affine(emitter, call, channels)
    normal = emitter.add(
        "BatchNormalization", emitter.value(call["input"]), scale, shift,
        emitter.value(call["running_mean"]), emitter.value(call["running_var"]),
        epsilon=float(call["eps"]),
    )  # fmt: skip
    return (normal,)  # inference saves nothing


def _affine(emitter: Emitter, call: Call, shape: Sequence[int]) -> tuple[str, str]:
    ones, zeros = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    scale = emitter.constant(ones) if call["weight"] is None else emitter.value(call["weight"])
    shift = emitter.constant(zeros) if call["bias"] is None else emitter.value(call["bias"])
    return scale, shift


def _layer_norm(emitter: Emitter, call: Call) -> tuple[str, ...]:
    shape = concrete(call["normalized_shape"])
    scale, shift = _affine(emitter, call, shape)
    inputs = (emitter.value(call["input"]), scale, shift)
    return emitter.add_many(
        "LayerNormalization", inputs, 3, axis=-len(shape), epsilon=float(call["eps"])
    )


def _group_norm(emitter: Emitter, call: Call) -> tuple[str, str, str]:
    """Output; mean and `1 / sqrt(var + eps)`, both `(batch, groups)`."""
    dtype, groups = call.out.dtype, call["group"]
    batch, channels, *spatial = call.out.shape
    axes = emitter.ints([2])
    flat = emitter.add("Reshape", emitter.value(call["input"]), emitter.ints([0, groups, -1]))
    mean = emitter.add("ReduceMean", flat, axes, keepdims=1)
    centred = emitter.add("Sub", flat, mean)
    var = emitter.add("ReduceMean", emitter.add("Mul", centred, centred), axes, keepdims=1)
    shifted = emitter.add("Add", var, emitter.number(call["eps"], dtype))
    rstd = emitter.add("Reciprocal", emitter.add("Sqrt", shifted))
    normal = emitter.reshape(emitter.add("Mul", centred, rstd), [batch, channels, *spatial])
    across = emitter.ints([channels, *(1 for _ in spatial)])
    for operator, name in (("Mul", "weight"), ("Add", "bias")):
        if call[name] is not None:
            vector = emitter.add("Reshape", emitter.value(call[name]), across)
            normal = emitter.add(operator, normal, vector)
    return (
        normal,
        emitter.reshape(mean, [batch, groups]),
        emitter.reshape(rstd, [batch, groups]),
    )


def _embedding(emitter: Emitter, call: Call) -> str:
    return emitter.add("Gather", emitter.value(call["weight"]), emitter.value(call["indices"]))


def _index_select(emitter: Emitter, call: Call) -> str:
    axis = call["dim"] % call.out.dim()
    return emitter.add(
        "Gather", emitter.value(call["self"]), emitter.value(call["index"]), axis=axis
    )


def _gather(emitter: Emitter, call: Call) -> str:
    x, index = emitter.value(call["self"]), emitter.value(call["index"])
    return emitter.add("GatherElements", x, index, axis=call["dim"] % call.out.dim())


def _scatter(reduction: str) -> Rule:
    def rule(emitter: Emitter, call: Call) -> str:
        if "src" in call.arguments:
            updates = emitter.value(call["src"])
        else:
            one = emitter.number(call["value"], call.out.dtype)
            updates = emitter.add("Expand", one, emitter.sizes(call.meta("index").shape))
        return emitter.add(
            "ScatterElements", emitter.value(call["self"]), emitter.value(call["index"]), updates,
            axis=call["dim"] % call.out.dim(), reduction=reduction,
        )  # fmt: skip

    return rule


def _index(emitter: Emitter, call: Call) -> str:
    """`x[:, i, j]`: one `Gather` along the axes i and j taken together."""
    sizes = call.meta("self").shape
    first, count, index = _joined_index(emitter, call["indices"], sizes)
    merged = [*sizes[:first], _merged(sizes[first : first + count]), *sizes[first + count :]]
    x = emitter.reshape(emitter.value(call["self"]), merged)
    return emitter.add("Gather", x, index, axis=first)


def _index_put(emitter: Emitter, call: Call) -> str:
    sizes = call.out.shape
    first, count, index = _joined_index(emitter, call["indices"], sizes)
    merged = [*sizes[:first], _merged(sizes[first : first + count]), *sizes[first + count :]]
    found = [node.meta["val"].shape for node in call["indices"] if node is not None]
    places = list(torch.broadcast_shapes(*found))
    number = 1
    for place in places:
        number = number * place
    one_axis = [*sizes[:first], number, *sizes[first + count :]]
    whole = emitter.add(
        "Expand", emitter.tensor(call["values"], call.out.dtype),
        emitter.sizes([*sizes[:first], *places, *sizes[first + count :]]),
    )  # fmt: skip
    updates = emitter.reshape(whole, one_axis)
    x = emitter.reshape(emitter.value(call["self"]), merged)
    reduction = "add" if call["accumulate"] else "none"
    if first == 0:
        index = emitter.reshape(index, [number, 1])
        moved = emitter.add("ScatterND", x, index, updates, reduction=reduction)
    else:
        along = [1] * len(one_axis)
        along[first] = number
        index = emitter.add("Expand", emitter.reshape(index, along), emitter.sizes(one_axis))
        moved = emitter.add("ScatterElements", x, index, updates, axis=first, reduction=reduction)
    return emitter.reshape(moved, sizes)


def _merged(sizes: Sequence[Any]) -> Any:  # noqa: ANN401
    total = sizes[0]
    for size in sizes[1:]:
        total = total * size
    return total


def _joined_index(
    emitter: Emitter, indices: Sequence[Any], sizes: Sequence[Any]
) -> tuple[int, int, str]:
    """The first indexed axis, their number, and one index into them laid side by side."""
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise PlanError("indices on axes that are not neighbours")
    joined = ""
    for axis in axes:
        meta = indices[axis].meta["val"]
        if meta.dtype == torch.bool:
            raise PlanError("a boolean mask as an index")
        index = emitter.cast(emitter.value(indices[axis]), meta.dtype, torch.int64)
        size = emitter.number(sizes[axis], torch.int64)
        negative = emitter.add("Less", index, emitter.number(0, torch.int64))
        index = emitter.add("Where", negative, emitter.add("Add", index, size), index)
        joined = emitter.add("Add", emitter.add("Mul", joined, size), index) if joined else index
    if any(is_free(sizes[axis]) for axis in axes[1:]):
        raise PlanError("an index into the batch after another axis")
    return axes[0], len(axes), joined


LAYERS: Final[dict[str, Rule]] = {
    "mm": _mm, "addmm": _addmm, "bmm": _bmm,
    "convolution": _convolution, "fedsparse.tap_products": _tap_products,
    "max_pool2d_with_indices": _max_pool, "avg_pool2d": _avg_pool,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "native_layer_norm": _layer_norm, "native_group_norm": _group_norm,
    "embedding": _embedding, "index_select": _index_select, "gather": _gather,
    "scatter.value": _scatter("none"), "scatter.src": _scatter("none"),
    "scatter_add": _scatter("add"),
    "index.Tensor": _index, "index_put": _index_put,
}  # fmt: skip
