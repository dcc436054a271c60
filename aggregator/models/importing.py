"""One way in for every model: `my_model.py:Net` or `model.onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aggregator.models.assembly import Imported
from aggregator.models.from_onnx import from_onnx
from aggregator.models.from_torch import from_torch
from aggregator.models.pruning import choose_prunable
from aggregator.models.torch_source import load_module
from fedsparse.errors import ConfigError
from fedsparse.plan import Loss, Shape


def import_model(
    source: str,
    *,
    input_shape: Shape | None = None,
    name: str = "",
    loss: Loss = Loss.CROSS_ENTROPY,
    prune: Sequence[str] = (),
    dense: Sequence[str] = (),
) -> Imported:
    """Import a model and choose what can be pruned (aggregator/models/pruning.py has the default).

    Args:
        source: an `.onnx` file, or a Python file and what in it makes the module.
        input_shape: of one sample; needed for torch, and for ONNX files that leave it open.
        name: of the plan; default: the torch name, or the ONNX file's.
        loss: what it is to be trained for.
        prune: patterns of names of layers to prune although the default would not.
        dense: patterns of names of layers to keep dense; stronger than `prune`.

    Raises:
        ConfigError: the source cannot be read, or a pattern matches nothing.
        PlanError: the model cannot be planned.
    """
    if source.endswith(".onnx"):
        imported = from_onnx(Path(source), name=name, input_shape=input_shape, loss=loss)
    else:
        imported = _from_python(source, input_shape, name, loss)
    return replace(imported, plan=choose_prunable(imported.plan, prune=prune, dense=dense))


def _from_python(source: str, input_shape: Shape | None, name: str, loss: Loss) -> Imported:
    file, separator, attribute = source.rpartition(":")
    if not separator or not file.endswith(".py") or not attribute:
        raise ConfigError(f"{source}: expected model.onnx, or my_model.py:Net")
    if input_shape is None:
        raise ConfigError(
            f"{source}: a torch model needs the shape of one sample, such as --input 3,32,32"
        )
    module = load_module(Path(file), attribute)
    return from_torch(module, input_shape, name=name or attribute, loss=loss)
