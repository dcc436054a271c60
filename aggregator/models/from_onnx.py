"""An ONNX file -> plan and values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx

from aggregator.models.assembly import Assembly, Imported, UnplannedError, Value
from aggregator.models.formulas import Formula
from aggregator.models.onnx_call import Call
from aggregator.models.onnx_formulas import onnx_formulas
from aggregator.models.onnx_graph import OnnxGraph, load_graph
from aggregator.models.onnx_rules import RULES
from aggregator.models.session import open_session, run
from aggregator.models.verify import check_same_logits
from fedsparse.errors import EngineError, PlanError
from fedsparse.plan import Loss, Shape
from fedsparse.plan.builder import PlanBuilder

SHAPED: Final = ("Reshape", "Expand", "Resize")  # the first input alone carries samples


def from_onnx(
    path: Path,
    *,
    name: str = "",
    input_shape: Shape | None = None,
    loss: Loss = Loss.CROSS_ENTROPY,
) -> Imported:
    """Import an ONNX model; its initialisers are the initial values.

    Args:
        path: the file; its input is `(batch, channels, *spatial)` or `(batch, features)`.
        name: of the plan; default: the file's name.
        input_shape: of one sample, where the file leaves it open.
        loss: what it is to be trained for.

    Raises:
        ConfigError: the file is missing or not ONNX.
        PlanError: it holds what no plan can express; every problem is named with its node.
    """
    graph = load_graph(path, input_shape)
    builder = PlanBuilder(name or path.stem, graph.input_shape)
    imported = _read(graph, Assembly(builder=builder, loss=loss), str(path))
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
    formulas = onnx_formulas(graph)
    for node in _needed(graph, formulas):
        if node.output[0] not in values:
            call = Call(node=node, graph=graph, values=values)
            _call(call, formulas.get(node.output[0]), assembly)
    return assembly.finish(source, values[graph.output])


def _call(call: Call, formula: Formula[str] | None, assembly: Assembly) -> None:
    try:
        value = _activation(call, formula, assembly) if formula else _rule(call, assembly)
    except PlanError as error:
        assembly.problems.append(f"node '{call.label}' ({call.operator}): {error}")
        value = Value(node="", shape=())
    except UnplannedError:
        value = Value(node="", shape=())
    call.values[call.node.output[0]] = value


def _activation(call: Call, formula: Formula[str], assembly: Assembly) -> Value:
    source = call.value(formula.root)
    name = call.name(formula.operator.kind)
    return assembly.add(formula.operator, source, name=name, shape=source.shape)


def _rule(call: Call, assembly: Assembly) -> Value:
    if call.operator not in RULES:
        raise PlanError("this operator is not supported")
    return RULES[call.operator](assembly, call)


def _needed(graph: OnnxGraph, formulas: Mapping[str, Formula[str]]) -> list[onnx.NodeProto]:
    """The nodes through which samples flow to the output.

    Arithmetic on shapes is left out, and so is the inside of an activation.
    """
    needed, flowing = [], {graph.output}
    for node in reversed(graph.nodes):
        if flowing.isdisjoint(node.output):
            continue
        needed.append(node)
        inputs = node.input[:1] if node.op_type in SHAPED else node.input
        if node.output[0] in formulas:
            inputs = [formulas[node.output[0]].root]
        flowing.update(name for name in inputs if name not in graph.constants)
    return needed[::-1]
