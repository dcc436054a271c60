"""A traced step as an ONNX model: names and types of inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import onnx
import torch
from onnx import helper

from aggregator.models.graph.emitter import BATCH, ELEMENT_TYPES, Emitter, Rule
from aggregator.models.graph.rules_elementwise import ELEMENTWISE
from aggregator.models.graph.rules_layers import LAYERS
from aggregator.models.graph.rules_shape import SHAPE
from aggregator.models.graph.trace import Traced

RULES: Final[dict[str, Rule]] = {**ELEMENTWISE, **SHAPE, **LAYERS}


def write_model(traced: Traced, name: str, prunable: Sequence[str] = ()) -> onnx.ModelProto:
    """The model of a trace.

    Args:
        traced: names its inputs and outputs.
        name: of the graph.
        prunable: tensors whose gradient is wanted at kept positions alone: each has an input
            `kept:<name>`, int32 `(nnz,)` into the flat tensor, and its gradient is `(nnz,)`.

    Raises:
        PlanError: an operator that has no standard ONNX operators here.
    """
    emitter = Emitter(RULES)
    nodes = list(traced.graph.graph.nodes)
    given = dict(zip(traced.inputs, _metas(n for n in nodes if n.op == "placeholder"), strict=True))
    made = dict(zip(traced.outputs, _metas(nodes[-1].args[0]), strict=True))
    inputs = [_info(name, value.dtype, value.shape) for name, value in given.items()]
    results = [_info(name, value.dtype, value.shape) for name, value in made.items()]
    values = dict(zip(traced.outputs, emitter.run(traced.graph, traced.inputs), strict=True))
    for tensor in prunable:
        gradient = f"gradient:{tensor}"
        place = traced.outputs.index(gradient)
        results[place] = _info(gradient, torch.float32, [f"kept:{tensor}"])
        inputs.append(_info(f"kept:{tensor}", torch.int32, [f"kept:{tensor}"]))
        flat = emitter.add("Reshape", values[gradient], emitter.ints([-1]))
        values[gradient] = emitter.add("Gather", flat, f"kept:{tensor}", axis=0)
    model = emitter.model(name, inputs, values, results)
    onnx.checker.check_model(model)
    return model


def _metas(nodes: Iterable[Any]) -> list[torch.Tensor]:
    return [node.meta["val"] for node in nodes]


def _info(name: str, dtype: torch.dtype, shape: Iterable[Any]) -> onnx.ValueInfoProto:
    sizes = [size if isinstance(size, int | str) else BATCH for size in shape]
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], sizes)
