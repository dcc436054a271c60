"""What each operator of an ONNX graph becomes in a plan.

A rule takes the assembly and one call, and returns the value that the call yields. To support
another operator, add its rule to `RULES` under its ONNX name; activations need none, see
`aggregator.models.onnx_formulas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aggregator.models import onnx_layers as layers
from aggregator.models.assembly import Assembly, Value
from aggregator.models.onnx_call import Call, as_written
from fedsparse.errors import PlanError
from fedsparse.plan import Add, Concat, Dropout, Mul


def _add(assembly: Assembly, call: Call) -> Value:
    return assembly.add_sum(call.data(0), call.data(1), name=call.name(Add.kind))


def _mul(assembly: Assembly, call: Call) -> Value:
    return assembly.add_product(call.data(0), call.data(1), name=call.name(Mul.kind))


def _concat(assembly: Assembly, call: Call) -> Value:
    parts = [call.data(index) for index in range(len(call.node.input))]
    return assembly.add_concat(parts, axis=call.attributes()["axis"], name=call.name(Concat.kind))


def _reshape(assembly: Assembly, call: Call) -> Value:
    return layers.instance_norm_of_groups(assembly, call) or _view(assembly, call)


def _view(assembly: Assembly, call: Call) -> Value:
    return assembly.reshape(call.data(), call.shape(), name=call.name("flatten"))


def _expand(assembly: Assembly, call: Call) -> Value:
    return assembly.expand(call.data(), call.shape())


def _same(assembly: Assembly, call: Call) -> Value:
    if len(call.node.output) > 1 and any(call.node.output[1:]):
        raise PlanError("its second output is not supported")
    return call.data()


def _dropout(assembly: Assembly, call: Call) -> Value:
    source = _same(assembly, call)
    if call.has_input(2) and call.constant(2, "training_mode").any():
        raise PlanError("training_mode=1; export the model for evaluation")
    ratio = call.attributes(ratio=0.5)["ratio"]
    p = as_written(float(call.constant(1, "ratio")) if call.has_input(1) else ratio)
    return assembly.add_dropout(p, source, name=call.name(Dropout.kind)) if p else source


def _softmax(assembly: Assembly, call: Call) -> Value:
    source = call.data()
    default = -1 if len(source.shape) == 1 else 1
    axis = call.attributes(axis=default)["axis"] % (len(source.shape) + 1)
    if axis != 1 or len(source.shape) != 1 or call.node.output[0] != call.graph.output:
        raise PlanError("only a softmax over the classes at the very end is supported")
    return assembly.drop_softmax("softmax" if call.operator == "Softmax" else "log_softmax", source)


Rule = Callable[[Assembly, Call], Value]
RULES: Final[dict[str, Rule]] = {
    "Conv": layers.conv,
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    "BatchNormalization": layers.batch_norm,
    "LayerNormalization": layers.layer_norm,
    "GroupNormalization": layers.group_norm,
    "MaxPool": layers.pool, "AveragePool": layers.pool,
    "GlobalAveragePool": layers.global_avg_pool,
    "ReduceMean": layers.reduce_mean,
    "Resize": layers.upsample, "Upsample": layers.upsample,
    "Add": _add, "Mul": _mul, "Concat": _concat,
    "Reshape": _reshape,
    "Flatten": _view, "Squeeze": _view, "Unsqueeze": _view, "Expand": _expand,
    "Identity": _same,
    "Dropout": _dropout,
    "Softmax": _softmax, "LogSoftmax": _softmax,
}  # fmt: skip
