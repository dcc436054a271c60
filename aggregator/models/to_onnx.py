"""Plan + weights -> ONNX: zeros where the mask drops, a dynamic batch, the plan's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aggregator.models.onnx_nodes import Site, write_node
from aggregator.models.weights import tensors_by_name
from fedsparse.plan import INPUT, Node, Plan
from fedsparse.types import BoolArray, Float32Array, Weights

# What the oldest runtime that devices can install (1.19) reads.
OPSET: Final = 17
IR_VERSION: Final = 8
OUTPUT: Final = "logits"


def to_onnx(plan: Plan, weights: Weights, mask: BoolArray | None = None) -> onnx.ModelProto:
    """The model for inference, checked by `onnx.checker`.

    Input `input` `(batch, *input_shape)`, output `logits` `(batch, classes)`, both float32.
    `metadata_props` hold the plan's digest and the share of prunable weights that the mask keeps.

    Args:
        plan: the model.
        weights: prunable `(num_prunable,)`, dense `(num_dense,)`; not changed.
        mask: `(num_prunable,)`, True = kept; dropped weights are exported as zeros. None keeps all.

    Raises:
        ValueError: weights or mask of the wrong length.
    """
    tensors = tensors_by_name(plan, weights, mask)
    density = 1.0 if mask is None else float(np.count_nonzero(mask)) / plan.num_prunable
    model = _model(plan, initialisers=tensors)
    helper.set_model_props(
        model, {"fedsparse.plan": plan.digest, "fedsparse.density": f"{density:.6g}"}
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def to_parametric_onnx(plan: Plan) -> onnx.ModelProto:
    """The same graph with every tensor of the plan as one more input: one graph for all weights."""
    model = _model(plan, initialisers={})
    onnx.checker.check_model(model, full_check=True)
    return model


def _model(plan: Plan, *, initialisers: Mapping[str, Float32Array]) -> onnx.ModelProto:
    inputs = [_value(INPUT, ("batch", *plan.input_shape))]
    inputs += [_value(t.name, t.shape) for t in plan.tensors if t.name not in initialisers]
    graph = helper.make_graph(
        [made for node in plan.nodes for made in _nodes(plan, node)],
        plan.name,
        inputs,
        [_value(OUTPUT, ("batch", plan.classes))],
        [numpy_helper.from_array(values, name) for name, values in initialisers.items()],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fedsparse",
    )


def _value(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _nodes(plan: Plan, node: Node) -> list[onnx.NodeProto]:
    """The ONNX nodes of one plan node; the last of them yields its output."""
    shapes = tuple(plan.shapes[source] for source in node.inputs)
    return write_node(
        Site(
            name=node.name,
            operator=node.operator,
            inputs=tuple(_edge(plan, source) for source in node.inputs),
            output=_edge(plan, node.name),
            shapes=shapes,
            tensors=tuple(tensor.name for tensor in node.operator.tensors(node.name, shapes)),
        )
    )


def _edge(plan: Plan, node: str) -> str:
    """The name of a node's output; it cannot be that of a tensor, which ends in a parameter."""
    if node == plan.nodes[-1].name:
        return OUTPUT
    return INPUT if node == INPUT else f"{node}/output"
