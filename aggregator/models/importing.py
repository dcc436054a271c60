"""One way in for every model: `my_model.py:Net` or `model.onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aggregator.models.assembly import Imported, UnexpressedError
from aggregator.models.from_onnx import from_onnx
from aggregator.models.from_torch import from_torch
from aggregator.models.pruning import choose_prunable
from aggregator.models.torch_source import load_module
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import Loss, Shape


def import_model(
    source: str,
    *,
    input_shape: Shape | None = None,
    name: str = "",
    loss: Loss = Loss.CROSS_ENTROPY,
    prune: Sequence[str] = (),
    dense: Sequence[str] = (),
    graph: bool = True,
    with_graph: bool = False,
) -> Imported:
    """Import a model and choose what can be pruned (aggregator/models/pruning.py has the default).

    Args:
        source: an `.onnx` file, or a Python file and what in it makes the module.
        input_shape: of one sample; needed for torch, and for ONNX files that leave it open.
        name: of the plan; default: the torch name, or the ONNX file's.
        loss: what it is to be trained for.
        prune: patterns of names of layers to prune although the default would not.
        dense: patterns of names of layers to keep dense; stronger than `prune`.
        graph: whether a torch module that no plan can express becomes a training graph.
        with_graph: whether a plan of operators gets a training graph, too, for devices on which
            that is faster.

    Raises:
        ConfigError: the source cannot be read, a pattern matches nothing, or a graph is wanted and
            torch is missing.
        PlanError: the model cannot be planned.
    """
    if source.endswith(".onnx"):
        imported = from_onnx(Path(source), name=name, input_shape=input_shape, loss=loss)
    else:
        module, name, shape = _load(source, input_shape, name)
        try:
            imported = from_torch(module, shape, name=name, loss=loss)
        except UnexpressedError as error:
            if not graph:
                raise
            return _as_graph(module, shape, name, loss, prune, dense, error)
    imported = replace(imported, plan=choose_prunable(imported.plan, prune=prune, dense=dense))
    return _with_graph(imported) if with_graph else imported


def _with_graph(imported: Imported) -> Imported:
    try:
        from aggregator.models.training_graph import plan_graph
    except ImportError as error:
        raise ConfigError(
            "a training graph is made with torch: pip install 'fedsparse[torch]'"
        ) from error
    graph = plan_graph(imported.plan)
    return replace(imported, plan=replace(imported.plan, graph=graph.digest), graph=graph)


def _load(source: str, input_shape: Shape | None, name: str) -> tuple[Any, str, Shape]:
    """Module, name and input shape."""
    file, separator, attribute = source.rpartition(":")
    if not separator or not file.endswith(".py") or not attribute:
        raise ConfigError(f"{source}: expected model.onnx, or my_model.py:Net")
    if input_shape is None:
        raise ConfigError(
            f"{source}: a torch model needs the shape of one sample, such as --input 3,32,32"
        )
    return load_module(Path(file), attribute), name or attribute, input_shape


def _as_graph(
    module: Any,  # noqa: ANN401
    shape: Shape,
    name: str,
    loss: Loss,
    prune: Sequence[str],
    dense: Sequence[str],
    missing: PlanError,
) -> Imported:
    from aggregator.models.opaque import from_module

    try:
        imported = from_module(module, shape, name=name, loss=loss, prune=prune, dense=dense)
    except PlanError as error:
        raise PlanError(f"{missing}; nor can it be a training graph: {error}") from error
    note = (
        f"no plan expresses it, so that it is a training graph: devices need onnxruntime for it, "
        f"and its time does not fall with density. What is missing: {missing}"
    )
    return replace(imported, notes=(*imported.notes, note))
