"""Plan -> torch module: the one translation for the oracle of the tests and the training graph.

Needs torch, which is an extra: import this module where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

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
    Concat,
    Conv,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Linear,
    Loss,
    MaxPool,
    Mul,
    Operator,
    Pads,
    Plan,
    Relu,
    Relu6,
    Role,
    Sigmoid,
    Silu,
    Tanh,
    Tensor,
    Upsample,
)
from fedsparse.types import BoolArray, Weights

Tensors = dict[str, torch.Tensor]  # of one node, by the last part of their names
Inputs = Sequence[torch.Tensor]
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class PlanModule(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A plan as torch runs it; its state dict has the plan's tensors under the plan's names.

    Values are zeros until `load_weights` (or `load_state_dict`) brings some.

    Raises:
        PlanError: torch cannot have a node of this name.
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


def loss_function(loss: Loss) -> LossFunction:
    """Outputs `(batch, outputs)` and targets to a scalar: the mean over the batch, as `Loss` says.

    Targets are int64 `(batch,)` for cross-entropy, else floating-point `(batch, outputs)`.
    """
    return _LOSSES[loss]


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


def _linear(operator: Linear, inputs: Inputs, owned: Tensors, _: bool) -> torch.Tensor:
    return F.linear(inputs[0], owned["weight"], owned.get("bias"))


def _conv(operator: Conv, inputs: Inputs, owned: Tensors, _: bool) -> torch.Tensor:
    run = F.conv1d if len(operator.kernel) == 1 else F.conv2d
    x, padding = inputs[0], tuple(before for before, _ in operator.pads)
    if any(before != after for before, after in operator.pads):
        x, padding = _padded(x, operator.pads), (0,) * len(padding)
    return run(
        x, owned["weight"], owned.get("bias"), stride=operator.stride, padding=padding,
        dilation=operator.dilation, groups=operator.groups,
    )  # fmt: skip


def _batch_norm(
    operator: BatchNorm, inputs: Inputs, owned: Tensors, training: bool
) -> torch.Tensor:
    return F.batch_norm(
        inputs[0], owned["running_mean"], owned["running_var"], owned["weight"], owned["bias"],
        training, operator.momentum, operator.eps,
    )  # fmt: skip


def _group_norm(operator: GroupNorm, inputs: Inputs, owned: Tensors, _: bool) -> torch.Tensor:
    return F.group_norm(inputs[0], operator.groups, owned["weight"], owned["bias"], operator.eps)


def _layer_norm(operator: LayerNorm, inputs: Inputs, owned: Tensors, _: bool) -> torch.Tensor:
    weight = owned["weight"]
    return F.layer_norm(inputs[0], weight.shape, weight, owned["bias"], operator.eps)


def _max_pool(operator: MaxPool, inputs: Inputs, *_: object) -> torch.Tensor:
    run = F.max_pool1d if len(operator.kernel) == 1 else F.max_pool2d
    x = _padded(inputs[0], operator.pads, -math.inf)
    return run(x, operator.kernel, operator.stride)


def _avg_pool(operator: AvgPool, inputs: Inputs, *_: object) -> torch.Tensor:
    run = F.avg_pool1d if len(operator.kernel) == 1 else F.avg_pool2d
    return run(_padded(inputs[0], operator.pads), operator.kernel, operator.stride)


def _upsample(operator: Upsample, inputs: Inputs, *_: object) -> torch.Tensor:
    x = inputs[0]
    for axis, scale in enumerate(operator.scale, 2):
        repeated = [-1] * (x.dim() + 1)
        repeated[axis + 1] = scale
        x = x.unsqueeze(axis + 1).expand(repeated).flatten(axis, axis + 1)
    return x


def _mul(operator: Mul, inputs: Inputs, *_: object) -> torch.Tensor:
    gate, gated = sorted(inputs, key=torch.Tensor.dim)
    return gated * gate.reshape(gate.shape + (1,) * (gated.dim() - gate.dim()))


def _padded(x: torch.Tensor, pads: Pads, value: float = 0.0) -> torch.Tensor:
    """Asymmetric pads, which torch's own operators do not take."""
    sides = [side for pair in reversed(pads) for side in pair]
    return F.pad(x, sides, value=value) if any(sides) else x


def _map(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda operator, inputs, owned, training: function(inputs[0])


_RUN: Final[dict[type[Operator], Callable[..., torch.Tensor]]] = {
    Linear: _linear,
    Conv: _conv,
    BatchNorm: _batch_norm,
    GroupNorm: _group_norm,
    LayerNorm: _layer_norm,
    MaxPool: _max_pool,
    AvgPool: _avg_pool,
    GlobalAvgPool: _map(lambda x: x.flatten(2).mean(2)),
    Upsample: _upsample,
    Flatten: _map(lambda x: x.flatten(1)),
    Add: lambda operator, inputs, owned, training: inputs[0] + inputs[1],
    Mul: _mul,
    Concat: lambda operator, inputs, owned, training: torch.cat(list(inputs), 1),
    Dropout: lambda operator, inputs, owned, training: F.dropout(inputs[0], operator.p, training),
    Relu: _map(F.relu),
    Relu6: _map(F.relu6),
    LeakyRelu: lambda operator, inputs, owned, training: F.leaky_relu(inputs[0], operator.slope),
    Sigmoid: _map(torch.sigmoid),
    Tanh: _map(torch.tanh),
    Silu: _map(F.silu),
    Gelu: lambda operator, inputs, owned, training: F.gelu(
        inputs[0], approximate="tanh" if operator.approximate else "none"
    ),
    HardSigmoid: _map(F.hardsigmoid),
    HardSwish: _map(F.hardswish),
}

_LOSSES: Final[dict[Loss, LossFunction]] = {
    Loss.CROSS_ENTROPY: F.cross_entropy,
    Loss.MSE: F.mse_loss,
    Loss.BCE: F.binary_cross_entropy_with_logits,
}
