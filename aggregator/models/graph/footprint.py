"""What a model keeps alive while it runs, and how much it computes: from shapes, for any batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import TensorProto

from aggregator.models.graph.emitter import BATCH
from fedsparse.errors import PlanError
from fedsparse.plan.training_graph import Line

SMALL, LARGE = 8, 24  # batch sizes that every line is drawn through
ELEMENT_BYTES: Final = {
    TensorProto.FLOAT: 4, TensorProto.DOUBLE: 8, TensorProto.INT64: 8, TensorProto.INT32: 4,
    TensorProto.BOOL: 1,
}  # fmt: skip
# What onnxruntime leaves in the memory of its input.
VIEWS: Final = frozenset(["Reshape", "Squeeze", "Unsqueeze", "Identity"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes alive at the worst moment, as the largest of some lines; and multiply-adds a sample."""

    lines: tuple[Line, ...]
    multiply_adds: int


def footprint(model: onnx.ModelProto) -> Footprint:
    """Walk through a model as onnxruntime does in the order of its nodes.

    What is alive is counted for two batch sizes, node by node; each node gives a line through both.

    Raises:
        PlanError: a value's shape cannot be inferred.
    """
    few, many = _alive(_sized(model, SMALL)), _alive(_sized(model, LARGE))
    lines = []
    for low, high in zip(few, many, strict=True):
        each = max(0, (high - low) // (LARGE - SMALL))
        lines.append((max(0, low - SMALL * each), each))
    work = [_multiply_adds(_sized(model, batch)) for batch in (SMALL, LARGE)]
    return Footprint(
        lines=_upper(lines), multiply_adds=max(0, (work[1] - work[0]) // (LARGE - SMALL))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sized:
    model: onnx.ModelProto
    shapes: Mapping[str, tuple[int, ...]]
    bytes_of: Mapping[str, int]


def _sized(model: onnx.ModelProto, batch: int) -> _Sized:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for value in [*copied.graph.input, *copied.graph.output]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = batch if size.dim_param == BATCH else 0  # kept weights: no part
    try:
        inferred = onnx.shape_inference.infer_shapes(copied, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())
        raise PlanError(f"shapes cannot be inferred: {reason}") from error
    shapes, sizes = {}, {}
    for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
        kind = value.type.tensor_type
        shapes[value.name] = tuple(size.dim_value for size in kind.shape.dim)
        sizes[value.name] = ELEMENT_BYTES[kind.elem_type] * math.prod(shapes[value.name])
    for constant in inferred.graph.initializer:
        shapes[constant.name] = tuple(constant.dims)
    missing = [n for node in inferred.graph.node for n in node.output if n and n not in sizes]
    if missing:
        raise PlanError(f"the shape of '{missing[0]}' cannot be inferred")
    return _Sized(model=inferred, shapes=shapes, bytes_of=sizes)


def _alive(sized: _Sized) -> list[int]:
    """Bytes alive during each node: its inputs, its outputs, and what later nodes read."""
    graph = sized.model.graph
    home: dict[str, str] = {}  # the value whose memory a value lies in
    free = {value.name for value in [*graph.input, *graph.initializer]}  # the caller's
    last = _last_use(sized.model, home, free)
    alive: dict[str, int] = {}
    found = []
    for place, node in enumerate(graph.node):
        for output in node.output:
            if output and home.get(output, output) == output:
                alive[output] = sized.bytes_of[output]
        found.append(sum(alive.values()) + _scratch(node, sized))
        for name in [name for name in alive if last.get(name, -1) <= place]:
            del alive[name]
    return found


def _last_use(model: onnx.ModelProto, home: dict[str, str], free: set[str]) -> dict[str, int]:
    """The last node that reads each memory; fills `home` with who lies in whose."""
    reads: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            reads[name] = reads.get(name, 0) + 1
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type in VIEWS and node.output[0] not in outputs:
            home[node.output[0]] = home.get(node.input[0], node.input[0])
    last: dict[str, int] = {}
    for place, node in enumerate(model.graph.node):
        for name in (*node.input, *node.output):
            last[home.get(name, name)] = place
    for name in outputs:
        last[home.get(name, name)] = len(model.graph.node)
    return last


def _scratch(node: onnx.NodeProto, sized: _Sized) -> int:
    """Memory of a node's own: what a transposed convolution lays out before it adds it up."""
    if node.op_type != "ConvTranspose":
        return 0
    weight, x = sized.shapes[node.input[1]], sized.shapes[node.input[0]]
    return 4 * math.prod(weight[1:]) * math.prod(x[2:])


def _multiply_adds(sized: _Sized) -> int:
    return sum(_products(sized))


def _products(sized: _Sized) -> Iterator[int]:
    for node in sized.model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            weight = sized.shapes[node.input[1]]
            swept = node.output[0] if node.op_type == "Conv" else node.input[0]
            yield math.prod(sized.shapes[swept]) * math.prod(weight[1:])
        elif node.op_type in ("Gemm", "MatMul"):
            left = sized.shapes[node.input[0]]
            turned = any(item.name == "transA" and item.i for item in node.attribute)
            inner = left[-2] if turned else left[-1]
            yield math.prod(sized.shapes[node.output[0]]) * inner


def _upper(lines: list[Line]) -> tuple[Line, ...]:
    """Those that are the largest at some batch size from 1 on."""
    best: list[Line] = []
    for fixed, each in sorted(set(lines), key=lambda line: (-line[1], -line[0])):
        if all(fixed + each > other[0] + other[1] for other in best):
            best.append((fixed, each))
    return tuple(best)
