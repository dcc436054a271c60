"""The activations of an ONNX graph, whichever way an exporter writes them."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from aggregator.models.formulas import Formula, find_formulas
from aggregator.models.onnx_graph import OWN_DOMAINS, OnnxGraph
from fedsparse.types import Float64Array

ELEMENTWISE: Final = frozenset((
    "Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Exp", "Erf", "Min", "Max", "Clip", "Relu",
    "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "HardSigmoid", "HardSwish", "Gelu", "Swish",
))  # fmt: skip


def onnx_formulas(graph: OnnxGraph) -> dict[str, Formula[str]]:
    """The activations of a graph by the name of the value that they are."""
    makers = {node.output[0]: node for node in graph.nodes if _is_scalar_function(node, graph)}

    def compute(value: str, root: str, points: Float64Array) -> Float64Array | None:
        needed, flowing = [], {value}
        for node in reversed(makers.values()):
            if node.output[0] in flowing and node.output[0] != root:
                needed.append(node)
                flowing.update(_sources(node, graph))
        return _run(needed[::-1], graph, root, points)

    return find_formulas([(name, _sources(node, graph)) for name, node in makers.items()], compute)


def _is_scalar_function(node: onnx.NodeProto, graph: OnnxGraph) -> bool:
    constants = [graph.constants[name] for name in node.input if name in graph.constants]
    return (
        node.op_type in ELEMENTWISE
        and node.domain in OWN_DOMAINS
        and bool(_sources(node, graph))
        and all(constant.size == 1 for constant in constants)
    )


def _sources(node: onnx.NodeProto, graph: OnnxGraph) -> list[str]:
    return list(dict.fromkeys(n for n in node.input if n and n not in graph.constants))


def _run(
    nodes: list[onnx.NodeProto], graph: OnnxGraph, root: str, points: Float64Array
) -> Float64Array:
    """The last node's output where `root` is `points`, in float32 as the graph computes it."""
    constants = {name for node in nodes for name in node.input if name in graph.constants}
    x = helper.make_tensor_value_info(root, TensorProto.FLOAT, points.shape)
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, points.shape)
    formula = helper.make_graph(
        nodes, "formula", [x], [y],
        [numpy_helper.from_array(graph.constants[name].reshape(()), name) for name in constants],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", graph.opset)]
    evaluator = ReferenceEvaluator(helper.make_model(formula, opset_imports=opsets))
    with np.errstate(all="ignore"):
        (result,) = evaluator.run(None, {root: points.astype(np.float32)})
    return np.asarray(result, np.float64)
