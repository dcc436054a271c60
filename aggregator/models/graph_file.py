"""The training graph of a plan: its file beside the plan, and its models as ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from fedsparse.errors import ConfigError, EngineError
from fedsparse.plan import INPUT, Plan
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.types import Float32Array


def load_graph(plan_path: Path, plan: Plan) -> TrainingGraph | None:
    """The training graph beside a plan's file (`net.json`, `net.graph`); None where it has none.

    Raises:
        ConfigError: it is missing, damaged, or of another plan.
    """
    if not plan.graph:
        return None
    path = plan_path.with_suffix(".graph")
    again = "`fedsparse model import` writes it beside the plan: import the model again"
    try:
        graph = TrainingGraph.from_bytes(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    except EngineError as error:
        raise ConfigError(f"{path}: {error}; {again}") from error
    if graph.digest != plan.graph:
        raise ConfigError(
            f"{path}: it is {graph.digest[:12]}, the plan's is {plan.graph[:12]}; {again}"
        )
    return graph


def parametric_inference(graph: TrainingGraph) -> onnx.ModelProto:
    """Inference with all tensors and `input` as inputs: what `to_parametric_onnx` is for a plan."""
    model = onnx.load_model_from_string(graph.inference)
    for value in model.graph.input:
        if value.name == "samples":
            value.name = INPUT
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "samples":
                node.input[place] = INPUT
    return model


def graph_to_onnx(graph: TrainingGraph, tensors: Mapping[str, Float32Array]) -> onnx.ModelProto:
    """Inference with these tensors in it: what `to_onnx` is for a plan of operators."""
    model = parametric_inference(graph)
    samples = [value for value in model.graph.input if value.name == INPUT]
    del model.graph.input[:]
    model.graph.input.extend(samples)
    for name in graph.tensors:
        model.graph.initializer.append(onnx.numpy_helper.from_array(tensors[name], name))
    onnx.checker.check_model(model)
    return model
