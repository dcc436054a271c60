"""An ONNX file -> plan and values."""

from __future__ import annotations

from pathlib import Path

import onnx

from aggregator.models.assembly import Assembly, Imported, UnplannedError, Value
from aggregator.models.onnx_graph import OnnxGraph, load_graph
from aggregator.models.onnx_rules import RULES, Call
from aggregator.models.session import open_session, run
from aggregator.models.verify import check_same_logits
from fedsparse.errors import EngineError, PlanError
from fedsparse.plan import Shape
from fedsparse.plan.builder import PlanBuilder


def from_onnx(path: Path, *, name: str = "", input_shape: Shape | None = None) -> Imported:
    """Import an ONNX classifier; its initialisers are the initial values.

    Args:
        path: the file; its input is `(batch, channels, *spatial)` or `(batch, features)`.
        name: of the plan; default: the file's name.
        input_shape: of one sample, where the file leaves it open.

    Raises:
        ConfigError: the file is missing or not ONNX.
        PlanError: it holds what no plan can express; every problem is named with its node.
    """
    graph = load_graph(path, input_shape)
    builder = PlanBuilder(name or path.stem, graph.input_shape)
    imported = _read(graph, Assembly(builder=builder), str(path))
    try:
        check_same_logits(
            imported,
            lambda samples: run(open_session(str(path)), {graph.input: samples}),
            batch=graph.batch,
        )
    except (PlanError, EngineError) as error:
        raise PlanError(f"{path}: {error}") from error
    return imported


def _read(graph: OnnxGraph, assembly: Assembly, source: str) -> Imported:
    values = {graph.input: assembly.input()}
    if graph.output in graph.constants:
        raise PlanError(f"{source}: the output '{graph.output}' is a constant")
    for node in _needed(graph):
        if node.output[0] not in values:
            _call(Call(node=node, graph=graph, values=values), assembly)
    return assembly.finish(source, values[graph.output])


def _call(call: Call, assembly: Assembly) -> None:
    try:
        if call.operator not in RULES:
            raise PlanError("this operator is not supported")
        value = RULES[call.operator](assembly, call)
    except PlanError as error:
        assembly.problems.append(f"node '{call.label}' ({call.operator}): {error}")
        value = Value(node="", shape=())
    except UnplannedError:
        value = Value(node="", shape=())
    call.values[call.node.output[0]] = value


def _needed(graph: OnnxGraph) -> list[onnx.NodeProto]:
    """The nodes through which samples flow to the output; arithmetic on shapes is left out."""
    needed, flowing = [], {graph.output}
    for node in reversed(graph.nodes):
        if flowing.isdisjoint(node.output):
            continue
        needed.append(node)
        inputs = node.input[:1] if node.op_type == "Reshape" else node.input
        flowing.update(name for name in inputs if name not in graph.constants)
    return needed[::-1]
