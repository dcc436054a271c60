"""Plan -> torch module: the one translation for the oracle of the tests and the training graph.

Needs torch, which is an extra: import this module where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import nn

from aggregator.models.weights import tensors_by_name
from fedsparse.errors import PlanError
from fedsparse.plan import (
    INPUT,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Operator,
    Plan,
    Relu,
    Role,
    Tensor,
)
from fedsparse.types import BoolArray, Weights

Tensors = dict[str, torch.Tensor]  # of one node, by the last part of their names
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PlanModule(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A plan as torch runs it; its state dict has the plan's tensors under the plan's names.

    Values are zeros until `load_weights` (or `load_state_dict`) brings some.

    Raises:
        PlanError: torch cannot have a node of this name, or has no such operator.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self._homes: dict[str, nn.Module] = {}  # the module that has a node's tensors
        for tensor in plan.tensors:
            self._homes[tensor.name.rpartition(".")[0]] = _register(self, tensor)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """`(batch, *input_shape)` to `(batch, outputs)`; evaluation and training differ as usual.

        Dropout draws from torch's generator; running statistics move in training.
        """
        values = {INPUT: samples}
        for node in self.plan.nodes:
            inputs = [values[source] for source in node.inputs]
            run = _RUN[type(node.operator)]
            values[node.name] = run(node.operator, inputs, self._owned(node.name), self.training)
        return values[self.plan.nodes[-1].name]

    def _owned(self, node: str) -> Tensors:
        home = self._homes.get(node)
        if home is None:
            return {}
        return {
            **dict(home.named_parameters(recurse=False)),
            **dict(home.named_buffers(recurse=False)),
        }


def to_torch(plan: Plan) -> PlanModule:
    """The module of a plan, in training mode and float32; `.double()` makes it an oracle.

    Raises:
        PlanError: as `PlanModule`.
    """
    unknown = {node.operator.kind for node in plan.nodes if type(node.operator) not in _RUN}
    if unknown:
        raise PlanError(f"plan '{plan.name}': torch has no operator {', '.join(sorted(unknown))}")
    return PlanModule(plan)


def load_weights(
    module: nn.Module, plan: Plan, weights: Weights, mask: BoolArray | None = None
) -> None:
    """Give a module the values of a plan, in the module's own precision.

    Args:
        module: has the plan's tensors in its state dict; changed in place.
        plan: whose order the vectors follow.
        weights: prunable `(num_prunable,)`, dense `(num_dense,)`.
        mask: `(num_prunable,)`; dropped weights become zeros.
    """
    tensors = tensors_by_name(plan, weights, mask)
    state = {name: torch.from_numpy(values) for name, values in tensors.items()}
    module.load_state_dict(state, strict=False)


def loss_function(plan: Plan) -> Loss:
    """The loss of a plan: `(batch, outputs)` and targets to a scalar, the mean over the batch."""
    return F.cross_entropy


def _register(root: nn.Module, tensor: Tensor) -> nn.Module:
    path, _, parameter = tensor.name.rpartition(".")
    home = root
    values = torch.ones if tensor.role is Role.RUNNING_VAR else torch.zeros
    try:
        for part in path.split("."):
            if part not in home._modules:
                home.add_module(part, nn.Module())
            home = home.get_submodule(part)
        if tensor.role.is_trained:
            home.register_parameter(parameter, nn.Parameter(values(tensor.shape)))
        else:
            home.register_buffer(parameter, values(tensor.shape))
    except KeyError as error:
        raise PlanError(f"torch cannot hold the tensor '{tensor.name}': {error.args[0]}") from error
    return home


def _linear(operator: Linear, inputs: list[torch.Tensor], owned: Tensors, _: bool) -> torch.Tensor:
    return F.linear(inputs[0], owned["weight"], owned.get("bias"))


def _conv(operator: Conv, inputs: list[torch.Tensor], owned: Tensors, _: bool) -> torch.Tensor:
    run = F.conv1d if len(operator.kernel) == 1 else F.conv2d
    x, padding = inputs[0], tuple(before for before, _ in operator.pads)
    if any(before != after for before, after in operator.pads):
        x, padding = _padded(x, operator.pads), (0,) * len(padding)
    return run(x, owned["weight"], owned.get("bias"), stride=operator.stride, padding=padding)


def _batch_norm(
    operator: BatchNorm, inputs: list[torch.Tensor], owned: Tensors, training: bool
) -> torch.Tensor:
    return F.batch_norm(
        inputs[0], owned["running_mean"], owned["running_var"], owned["weight"], owned["bias"],
        training, operator.momentum, operator.eps,
    )  # fmt: skip


def _max_pool(operator: MaxPool, inputs: list[torch.Tensor], *_: object) -> torch.Tensor:
    run = F.max_pool1d if len(operator.kernel) == 1 else F.max_pool2d
    x = _padded(inputs[0], operator.pads, -math.inf)
    return run(x, operator.kernel, operator.stride)


def _avg_pool(operator: AvgPool, inputs: list[torch.Tensor], *_: object) -> torch.Tensor:
    run = F.avg_pool1d if len(operator.kernel) == 1 else F.avg_pool2d
    return run(_padded(inputs[0], operator.pads), operator.kernel, operator.stride)


def _padded(x: torch.Tensor, pads: Any, value: float = 0.0) -> torch.Tensor:  # noqa: ANN401
    """Asymmetric pads, which torch's own operators do not take."""
    sides = [side for pair in reversed(pads) for side in pair]
    return F.pad(x, sides, value=value) if any(sides) else x


_RUN: Final[dict[type[Operator], Callable[..., torch.Tensor]]] = {
    Linear: _linear,
    Conv: _conv,
    BatchNorm: _batch_norm,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    Relu: lambda operator, inputs, owned, training: F.relu(inputs[0]),
    GlobalAvgPool: lambda operator, inputs, owned, training: inputs[0].flatten(2).mean(2),
    Add: lambda operator, inputs, owned, training: inputs[0] + inputs[1],
    Flatten: lambda operator, inputs, owned, training: inputs[0].flatten(1),
}
