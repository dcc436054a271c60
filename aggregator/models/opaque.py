"""A torch module that no plan expresses -> a plan of one node, and its training graph.

Needs torch, an extra: import this module where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import onnx
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from aggregator.models.assembly import Imported
from aggregator.models.pruning import MIN_WEIGHTS
from aggregator.models.training_graph import export_graph
from fedsparse.errors import ConfigError, PlanError
from fedsparse.plan import INPUT, GraphModel, Loss, Node, Plan, Role, Shape, Tensor
from fedsparse.plan.opaque import described
from fedsparse.plan.training_graph import TrainingGraph

NORMS: Final = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def from_module(
    module: nn.Module,
    input_shape: Shape,
    *,
    name: str,
    loss: Loss,
    prune: Sequence[str] = (),
    dense: Sequence[str] = (),
) -> Imported:
    """Export a module's training graph, and describe its tensors as a plan.

    Args:
        module: yields `(batch, outputs)`; its parameters are the initial values.
        input_shape: of one sample.
        name: of the plan.
        loss: what it is to be trained for.
        prune: patterns of names of parameters to prune although the default would not: that is
            every matrix of a linear, convolutional or recurrent layer of 1,000 weights or more, but
            the last linear layer and depthwise convolutions.
        dense: patterns of names of parameters to keep dense; stronger than `prune`.

    Raises:
        ConfigError: a pattern that matches no parameter of two or more axes.
        PlanError: it cannot be exported, or nothing is left to prune.
    """
    prunable = _choose(module, prune, dense)
    graph = export_graph(module, input_shape, loss, prunable=prunable, name=name)
    _check_ending(graph, loss)
    tensors = [_describe(module, tensor, tensor in prunable) for tensor in graph.tensors]
    operator = GraphModel(
        outputs=_outputs(graph, module, input_shape),
        parameters=tuple(described(tensor) for tensor in tensors),
        normalises=any(not tensor.role.is_trained for tensor in tensors),
        graph=graph.digest,
    )
    node = Node(name="model", operator=operator, inputs=(INPUT,))
    plan = Plan(name=name, input_shape=input_shape, nodes=(node,), loss=loss)
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    values = {tensor.name: state[tensor.name].detach().float().numpy() for tensor in tensors}
    return Imported(plan=plan, values=values, graph=graph)


def _check_ending(graph: TrainingGraph, loss: Loss) -> None:
    """The loss takes logits: a softmax or sigmoid before it would be applied twice."""
    model = onnx.load_model_from_string(graph.inference)
    by_output = {name: node for node in model.graph.node for name in node.output}
    last = by_output["outputs"]
    while last.op_type in ("Identity", "Reshape") and last.input[0] in by_output:
        last = by_output[last.input[0]]
    refused = {"Softmax", "LogSoftmax"} | ({"Sigmoid"} if loss is Loss.BCE else set())
    if last.op_type in refused:
        raise PlanError(
            f"it ends in a {last.op_type.lower()}, which does not go with the loss "
            f"'{loss.value}': let it yield what comes before"
        )


def _choose(module: nn.Module, prune: Sequence[str], dense: Sequence[str]) -> list[str]:
    """Names of the parameters that masks apply to, in the module's order."""
    matrices = [name for name, p in module.named_parameters() if p.dim() > 1 and p.requires_grad]
    for option, patterns in (("--prune", prune), ("--dense", dense)):
        for pattern in patterns:
            if not any(_matches(name, [pattern]) for name in matrices):
                raise ConfigError(
                    f"{option} '{pattern}' matches no parameter; there are {', '.join(matrices)}"
                )
    default = _default(module)
    chosen = [
        name
        for name in matrices
        if (name in default or _matches(name, prune)) and not _matches(name, dense)
    ]
    if not chosen:
        raise PlanError(
            f"no parameter is left to prune: those below {MIN_WEIGHTS} weights, the last linear "
            f"layer and embeddings stay dense unless named with --prune; there are "
            f"{', '.join(matrices) or 'none'}"
        )
    return chosen


def _default(module: nn.Module) -> set[str]:
    layers = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | _ConvNd | nn.RNNBase | nn.MultiheadAttention)
    ]
    last = [name for name, layer in layers if isinstance(layer, nn.Linear)][-1:]
    return {
        f"{name}.{own}" if name else own
        for name, layer in layers
        for own, p in layer.named_parameters(recurse=False)
        if p.dim() > 1 and p.numel() >= MIN_WEIGHTS and name not in last
        and not (isinstance(layer, _ConvNd) and layer.groups == layer.in_channels > 1)
    }  # fmt: skip


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern is the parameter's name, or its layer's."""
    layer = name.rpartition(".")[0]
    return any(fnmatchcase(name, pattern) or fnmatchcase(layer, pattern) for pattern in patterns)


def _describe(module: nn.Module, name: str, prunable: bool) -> Tensor:
    path, _, own = name.rpartition(".")
    layer = module.get_submodule(path)
    value = getattr(layer, own)
    role = _role(layer, own, value)
    fan_in = 0
    if role is Role.WEIGHT:
        outputs = value.shape[1] if isinstance(layer, _ConvTransposeNd) else value.shape[0]
        fan_in = 1 if isinstance(layer, nn.Embedding) else max(1, value.numel() // outputs)
    return Tensor(name=name, shape=tuple(value.shape), role=role, prunable=prunable, fan_in=fan_in)


def _role(layer: nn.Module, own: str, value: torch.Tensor) -> Role:
    if not isinstance(value, nn.Parameter):
        return Role.RUNNING_VAR if own == "running_var" else Role.RUNNING_MEAN
    if isinstance(layer, NORMS):
        return Role.SCALE if own == "weight" else Role.SHIFT
    return Role.WEIGHT if value.dim() > 1 else Role.BIAS


def _outputs(graph: TrainingGraph, module: nn.Module, input_shape: Shape) -> int:
    """Of one sample; `export_graph` has run the module on such samples."""
    from aggregator.models.graph.selftest import plausible_samples

    module = module.eval()
    samples = plausible_samples(module, input_shape, 2)
    with torch.no_grad():
        shape = tuple(module(samples).shape)
    if len(shape) != 2:
        raise PlanError(f"the model must yield (batch, outputs), it yields {shape}")
    return int(shape[1])
