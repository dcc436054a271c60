"""What each operator of an ONNX graph becomes in a plan.

A rule takes the assembly and one call, and returns the value that the call yields. To support
another operator, add its rule to `RULES` under its ONNX name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx

from aggregator.models.assembly import Assembly, UnplannedError, Value
from aggregator.models.onnx_graph import OWN_DOMAINS, Array, OnnxGraph, attributes_of
from fedsparse.errors import PlanError
from fedsparse.plan import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Pads,
    Relu,
    Shape,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One node of an ONNX graph.

    Attributes:
        node: the node.
        graph: where it is.
        values: what earlier nodes yielded; a rule may add the output of a node that it absorbs.
    """

    node: onnx.NodeProto
    graph: OnnxGraph
    values: dict[str, Value]

    @property
    def operator(self) -> str:
        """Its kind, with the domain where that is not ONNX's own."""
        own = self.node.domain in OWN_DOMAINS
        return str(self.node.op_type if own else f"{self.node.domain}.{self.node.op_type}")

    @property
    def label(self) -> str:
        """How messages call it."""
        return str(self.node.name or self.node.output[0])

    def name(self, kind: str) -> str:
        """A name for its plan node: `/blocks/0/relu/Relu` is `blocks.0.relu`."""
        path = self.node.name.strip("/").removesuffix(self.node.op_type).strip("/")
        return path.replace("/", ".") or kind

    def attributes(self, **defaults: Any) -> dict[str, Any]:  # noqa: ANN401
        """The node's attributes, over defaults."""
        return {**defaults, **attributes_of(self.node)}

    def data(self, index: int = 0) -> Value:
        """The value of an input that flows through the model.

        Raises:
            PlanError: it is a constant.
            UnplannedError: it comes from a node that could not be planned.
        """
        name = self.node.input[index]
        if name in self.graph.constants:
            raise PlanError(f"its input '{name}' is a constant; only feature maps can be")
        if name not in self.values or not self.values[name].node:
            raise UnplannedError
        return self.values[name]

    def constant(self, index: int, role: str) -> Array:
        """An input that must be a constant."""
        name = self.node.input[index]
        if name not in self.graph.constants:
            raise PlanError(f"its {role} '{name}' is computed in the model; it must be a constant")
        return self.graph.constants[name]

    def has_input(self, index: int) -> bool:
        """Whether an optional input is given."""
        return len(self.node.input) > index and bool(self.node.input[index])

    def shape(self) -> Shape:
        """The output's shape without the batch; raises `PlanError` when the batch is not kept."""
        shape = self.graph.shapes.get(self.node.output[0], ())
        if not shape:
            raise PlanError("the shape of its output cannot be found; export with static shapes")
        if shape[0] != self.graph.batch:
            raise PlanError(
                f"it mixes samples: a batch of {self.graph.batch} becomes {shape}; export the "
                "model with a dynamic batch"
            )
        return shape[1:]


def _conv(assembly: Assembly, call: Call) -> Value:
    weight = call.constant(1, "weight")
    kernel: Shape = weight.shape[2:]
    attributes = call.attributes(group=1)
    if attributes["group"] != 1:
        raise PlanError(f"group={attributes['group']}; only group=1 is supported")
    stride, pads = _window(attributes, kernel, call.data())
    operator = Conv(
        out_channels=weight.shape[0],
        kernel=kernel,
        stride=stride,
        pads=pads,
        bias=call.has_input(2),
    )
    values = {"weight": weight}
    if operator.bias:
        values["bias"] = call.constant(2, "bias")
    return _add_weighted(assembly, call, operator, values, names=call.node.input[1:])


def _gemm(assembly: Assembly, call: Call) -> Value:
    attributes = call.attributes(alpha=1.0, beta=1.0, transA=0, transB=0)
    if (attributes["alpha"], attributes["beta"], attributes["transA"]) != (1.0, 1.0, 0):
        raise PlanError("only alpha=1, beta=1 and transA=0 are supported")
    weight = call.constant(1, "weight")
    weight = weight if attributes["transB"] else weight.T
    operator = Linear(out_features=weight.shape[0], bias=call.has_input(2))
    values = {"weight": weight}
    if operator.bias:
        values["bias"] = _bias(call.constant(2, "bias"), weight.shape[0])
    return _add_weighted(assembly, call, operator, values, names=call.node.input[1:])


def _matmul(assembly: Assembly, call: Call) -> Value:
    """A product with constant weights, together with the addition of a constant after it."""
    weight = call.constant(1, "weight")
    if weight.ndim != 2:
        raise PlanError(f"its weight has shape {weight.shape}; only two axes are supported")
    names, values = list(call.node.input[1:]), {"weight": weight.T}
    addition = _added_constant(call)
    if addition is not None:
        constant = next(name for name in addition.input if name in call.graph.constants)
        names.append(constant)
        values["bias"] = _bias(call.graph.constants[constant], weight.shape[1])
    operator = Linear(out_features=weight.shape[1], bias=addition is not None)
    value = _add_weighted(assembly, call, operator, values, names=names)
    if addition is not None:
        call.values[addition.output[0]] = value
    return value


def _added_constant(call: Call) -> onnx.NodeProto | None:
    """The only reader of a node's output, where it adds a constant to it."""
    output = call.node.output[0]
    readers = [node for node in call.graph.nodes if output in node.input]
    if len(readers) != 1 or readers[0].op_type != "Add" or output == call.graph.output:
        return None
    return readers[0] if not call.graph.constants.keys().isdisjoint(readers[0].input) else None


def _bias(constant: Array, size: int) -> Array:
    """A bias as `(size,)`, from what broadcasts to it."""
    if constant.size not in (1, size):
        raise PlanError(f"its bias has shape {constant.shape}, not ({size},)")
    return np.broadcast_to(constant.ravel(), (size,))


def _add_weighted(
    assembly: Assembly,
    call: Call,
    operator: Conv | Linear,
    values: dict[str, Array],
    *,
    names: Any,  # noqa: ANN401
) -> Value:
    source = call.data()
    assembly.claim(names[0], call.label)
    name = _owner(names) or call.name(operator.kind)
    return assembly.add(operator, source, name=name, values=values)


def _owner(names: Any) -> str:  # noqa: ANN401
    """The layer that initialisers belong to, from `<layer>.weight` or `<layer>.bias`; else ''."""
    for name in names:
        layer, _, parameter = str(name).rpartition(".")
        if layer and parameter in ("weight", "bias"):
            return layer
    return ""


def _batch_norm(assembly: Assembly, call: Call) -> Value:
    attributes = call.attributes(epsilon=1e-5, momentum=0.9, training_mode=0)
    if attributes["training_mode"]:
        raise PlanError("training_mode=1; export the model for evaluation")
    roles = ("weight", "bias", "running_mean", "running_var")
    values = {role: call.constant(index, role) for index, role in enumerate(roles, 1)}
    operator = BatchNorm(  # ONNX weighs the old statistics, torch and the plan the new ones
        eps=_as_written(attributes["epsilon"]), momentum=_as_written(1 - attributes["momentum"])
    )
    name = _owner(call.node.input[1:3]) or call.name(operator.kind)
    return assembly.add(operator, call.data(), name=name, values=values)


def _as_written(number: float) -> float:
    """The decimal number that a float32 attribute stands for."""
    return float(f"{number:.6g}")


def _relu(assembly: Assembly, call: Call) -> Value:
    source = call.data()
    return assembly.add(Relu(), source, name=call.name(Relu.kind), shape=source.shape)


def _pool(assembly: Assembly, call: Call) -> Value:
    attributes = call.attributes(ceil_mode=0, count_include_pad=0)
    kernel = tuple(attributes["kernel_shape"])
    source = call.data()
    stride, pads = _window(attributes, kernel, source)
    if attributes["ceil_mode"]:
        raise PlanError("ceil_mode=1 is not supported")
    kind = MaxPool if call.node.op_type == "MaxPool" else AvgPool
    if kind is AvgPool and any(map(any, pads)) and not attributes["count_include_pad"]:
        raise PlanError("count_include_pad=0 with pads is not supported")
    if len(call.node.output) > 1 and call.node.output[1]:
        raise PlanError("its second output, the indices, is not supported")
    operator = kind(kernel=kernel, stride=stride, pads=pads)
    return assembly.add(operator, source, name=call.name(kind.kind))


def _window(attributes: dict[str, Any], kernel: Shape, source: Value) -> tuple[Shape, Pads]:
    """Stride and pads of a sliding window."""
    axes = len(kernel)
    if set(attributes.get("dilations", ())) - {1}:
        raise PlanError(f"dilations={attributes['dilations']}; only dilation 1 is supported")
    stride = tuple(attributes.get("strides", [1] * axes))
    auto_pad = attributes.get("auto_pad", b"NOTSET").decode()
    if auto_pad.startswith("SAME"):
        return stride, _same_pads(kernel, stride, source.shape[1:], at_end=auto_pad == "SAME_UPPER")
    flat = attributes.get("pads", ()) if auto_pad == "NOTSET" else ()
    flat = flat or [0] * 2 * axes
    return stride, tuple(zip(flat[:axes], flat[axes:], strict=True))


def _same_pads(kernel: Shape, stride: Shape, spatial: Shape, *, at_end: bool) -> Pads:
    """Pads for an output of `ceil(input / stride)`; an odd one goes to the end or the start."""
    pads = []
    for size, step, length in zip(kernel, stride, spatial, strict=True):
        total = max((-(-length // step) - 1) * step + size - length, 0)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if at_end else (more, less))
    return tuple(pads)


def _global_avg_pool(assembly: Assembly, call: Call) -> Value:
    source = call.data()
    return assembly.add(
        GlobalAvgPool(),
        source,
        name=call.name(GlobalAvgPool.kind),
        shape=(source.shape[0], *(1 for _ in source.shape[1:])),
    )


def _reduce_mean(assembly: Assembly, call: Call) -> Value:
    source = call.data()
    attributes = call.attributes(keepdims=1)
    axes = call.constant(1, "axes").tolist() if call.has_input(1) else attributes.get("axes", [])
    rank = len(source.shape) + 1
    if rank < 3 or sorted(axis % rank for axis in axes) != list(range(2, rank)):
        raise PlanError("only the mean over all spatial axes is supported")
    if attributes["keepdims"]:
        return _global_avg_pool(assembly, call)
    return assembly.add(GlobalAvgPool(), source, name=call.name(GlobalAvgPool.kind))


def _add(assembly: Assembly, call: Call) -> Value:
    left, right = call.data(0), call.data(1)
    if left.shape != right.shape:
        raise PlanError(f"it broadcasts {left.shape} and {right.shape}; shapes must be equal")
    return assembly.add(Add(), left, right, name=call.name(Add.kind), shape=left.shape)


def _view(assembly: Assembly, call: Call) -> Value:
    return assembly.reshape(call.data(), call.shape(), name=call.name("flatten"))


def _same(assembly: Assembly, call: Call) -> Value:
    if len(call.node.output) > 1 and any(call.node.output[1:]):
        raise PlanError("its second output is not supported")
    return call.data()


def _dropout(assembly: Assembly, call: Call) -> Value:
    assembly.notes.append(
        f"node '{call.label}': dropout has no effect in an exported model and is left out: "
        "devices train without it"
    )
    return _same(assembly, call)


def _softmax(assembly: Assembly, call: Call) -> Value:
    source = call.data()
    default = -1 if len(source.shape) == 1 else 1
    axis = call.attributes(axis=default)["axis"] % (len(source.shape) + 1)
    if axis != 1 or len(source.shape) != 1 or call.node.output[0] != call.graph.output:
        raise PlanError("only a softmax over the classes at the very end is supported")
    assembly.softmax = "softmax" if call.operator == "Softmax" else "log_softmax"
    assembly.notes.append(f"the last {call.operator} is dropped: the loss is taken on logits")
    return source


Rule = Callable[[Assembly, Call], Value]
RULES: Final[dict[str, Rule]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "Relu": _relu,
    "MaxPool": _pool, "AveragePool": _pool,
    "GlobalAveragePool": _global_avg_pool,
    "ReduceMean": _reduce_mean,
    "Add": _add,
    "Flatten": _view, "Reshape": _view, "Squeeze": _view, "Unsqueeze": _view,
    "Identity": _same,
    "Dropout": _dropout,
    "Softmax": _softmax, "LogSoftmax": _softmax,
}  # fmt: skip
