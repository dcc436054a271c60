"""What each operator of a plan becomes in ONNX (opset 17).

A rule appends nodes to a site; the last of them yields the output of the plan's node. To support
another operator, add its rule to `RULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from fedsparse.plan import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Mul,
    Operator,
    Relu,
    Relu6,
    Shape,
    Sigmoid,
    Silu,
    Tanh,
    Upsample,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One plan node that is being written.

    Attributes:
        name: of the plan's node.
        operator: what it does.
        inputs, output: names of ONNX values.
        shapes: of the inputs, without the batch.
        tensors: names of its parameters, in plan order.
        nodes: what has been written.
    """

    name: str
    operator: Any
    inputs: tuple[str, ...]
    output: str
    shapes: tuple[Shape, ...]
    tensors: tuple[str, ...]
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def emit(self, kind: str, *inputs: str, step: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Append a node; an intermediate one has a `step`. Returns the name of its output."""
        output = f"{self.output}/{step}" if step else self.output
        name = f"{self.name}/{step}" if step else self.name
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, step: str, value: npt.ArrayLike, kind: Any = np.float32) -> str:  # noqa: ANN401
        """Append a constant and return its name."""
        tensor = numpy_helper.from_array(np.asarray(value, kind))
        return self.emit("Constant", step=step, value=tensor)


def write_node(site: Site) -> list[onnx.NodeProto]:
    """The ONNX nodes of a plan node."""
    RULES[type(site.operator)](site)
    return site.nodes


def _plain(kind: str, **attributes: Any) -> Callable[[Site], None]:  # noqa: ANN401
    """An operator that ONNX has, too."""

    def rule(site: Site) -> None:
        site.emit(kind, *site.inputs, *site.tensors, **attributes)

    return rule


def _conv(site: Site) -> None:
    operator: Conv = site.operator
    window = {**_window(operator), "dilations": operator.dilation, "group": operator.groups}
    site.emit("Conv", *site.inputs, *site.tensors, **window)


def _max_pool(site: Site) -> None:
    site.emit("MaxPool", *site.inputs, **_window(site.operator))


def _avg_pool(site: Site) -> None:
    site.emit("AveragePool", *site.inputs, **_window(site.operator), count_include_pad=1)


def _window(operator: Conv | MaxPool) -> dict[str, Any]:
    return {
        "kernel_shape": operator.kernel,
        "strides": operator.stride,
        "pads": [pair[side] for side in (0, 1) for pair in operator.pads],
    }


def _global_avg_pool(site: Site) -> None:
    pooled = site.emit("GlobalAveragePool", *site.inputs, step="pooled")
    site.nodes[-1].name = site.name  # it is what an importer calls the plan's node after
    site.emit("Flatten", pooled)
    site.nodes[-1].name = f"{site.name}/flatten"


def _batch_norm(site: Site) -> None:
    operator: BatchNorm = site.operator  # ONNX weighs the old statistics, torch the new ones
    site.emit(
        "BatchNormalization", *site.inputs, *site.tensors,
        epsilon=operator.eps, momentum=1 - operator.momentum,
    )  # fmt: skip


def _group_norm(site: Site) -> None:
    """Opset 17 has no operator for it: instance normalisation of the groups, as torch writes it."""
    operator: GroupNorm = site.operator
    channels, *spatial = site.shapes[0]
    groups = site.constant("groups", [0, operator.groups, -1], np.int64)
    grouped = site.emit("Reshape", *site.inputs, groups, step="grouped")
    one, zero = (
        site.constant(name, np.full(operator.groups, value))
        for name, value in (("one", 1.0), ("zero", 0.0))
    )
    normed = site.emit(
        "InstanceNormalization", grouped, one, zero, step="normed", epsilon=operator.eps
    )
    target = site.constant("shape", [0, channels, *spatial], np.int64)
    normed = site.emit("Reshape", normed, target, step="ungrouped")
    each = site.constant("each", [channels, *(1 for _ in spatial)], np.int64)
    scale, shift = (
        site.emit("Reshape", tensor, each, step=step)
        for step, tensor in zip(("scale", "shift"), site.tensors, strict=True)
    )
    site.emit("Add", site.emit("Mul", normed, scale, step="scaled"), shift)


def _layer_norm(site: Site) -> None:
    operator: LayerNorm = site.operator
    site.emit(
        "LayerNormalization", *site.inputs, *site.tensors, axis=-operator.axes, epsilon=operator.eps
    )


def _relu6(site: Site) -> None:
    site.emit("Clip", *site.inputs, site.constant("least", 0.0), site.constant("most", 6.0))


def _leaky_relu(site: Site) -> None:
    site.emit("LeakyRelu", *site.inputs, alpha=float(site.operator.slope))


def _silu(site: Site) -> None:
    site.emit("Mul", *site.inputs, site.emit("Sigmoid", *site.inputs, step="sigmoid"))


def _gelu(site: Site) -> None:
    """Opset 17 has no operator for it."""
    (x,) = site.inputs
    if site.operator.approximate:
        cubed = site.emit("Pow", x, site.constant("three", 3.0), step="cubed")
        small = site.emit("Mul", cubed, site.constant("factor", 0.044715), step="small")
        inner = site.emit("Add", x, small, step="inner")
        scaled = site.emit("Mul", inner, site.constant("root", math.sqrt(2 / math.pi)), step="arg")
        curve = site.emit("Tanh", scaled, step="curve")
    else:
        scaled = site.emit("Div", x, site.constant("root", math.sqrt(2)), step="arg")
        curve = site.emit("Erf", scaled, step="curve")
    above = site.emit("Add", curve, site.constant("one", 1.0), step="above")
    half = site.emit("Mul", x, site.constant("half", 0.5), step="halved")
    site.emit("Mul", half, above)


def _dropout(site: Site) -> None:
    """Without effect in inference; it tells an importer what to train with."""
    site.emit("Dropout", *site.inputs, site.constant("p", site.operator.p))


def _upsample(site: Site) -> None:
    operator: Upsample = site.operator
    scales = site.constant("scales", [1, 1, *operator.scale])
    site.emit(
        "Resize", *site.inputs, "", scales, mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip


def _mul(site: Site) -> None:
    rank = max(map(len, site.shapes))
    inputs = []
    for name, shape in zip(site.inputs, site.shapes, strict=True):
        if len(shape) < rank:
            axes = site.constant("axes", list(range(2, rank + 1)), np.int64)
            name = site.emit("Unsqueeze", name, axes, step="gate")
        inputs.append(name)
    site.emit("Mul", *inputs)


RULES: Final[dict[type[Operator], Callable[[Site], None]]] = {
    Linear: _plain("Gemm", transB=1),
    Conv: _conv,
    BatchNorm: _batch_norm,
    GroupNorm: _group_norm,
    LayerNorm: _layer_norm,
    Relu: _plain("Relu"),
    Relu6: _relu6,
    LeakyRelu: _leaky_relu,
    Sigmoid: _plain("Sigmoid"),
    Tanh: _plain("Tanh"),
    Silu: _silu,
    Gelu: _gelu,
    HardSigmoid: _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    HardSwish: _plain("HardSwish"),
    Dropout: _dropout,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    GlobalAvgPool: _global_avg_pool,
    Upsample: _upsample,
    Add: _plain("Add"),
    Mul: _mul,
    Concat: _plain("Concat", axis=1),
    Flatten: _plain("Flatten"),
}
