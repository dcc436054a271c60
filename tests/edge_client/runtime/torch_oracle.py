"""A plan run by torch in float64, with masked weights: the oracle of the engine's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

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
    Node,
    Plan,
    Relu,
    Tensor,
)
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights

torch.set_num_threads(1)  # the tests run side by side


class TorchOracle:
    """Same constructor and methods as the engine; the mask multiplies dense float64 weights."""

    def __init__(
        self,
        plan: Plan,
        mask: BoolArray,
        weights: Weights,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.plan = plan
        self.tensors: dict[str, torch.Tensor] = {}
        self.set_mask(mask)
        full = np.zeros(plan.num_prunable)
        full[mask] = weights.prunable
        for tensors, values in ((plan.prunable, full), (plan.dense, weights.dense)):
            for tensor, part in zip(tensors, split(tensors, values), strict=True):
                value = torch.tensor(part.reshape(tensor.shape), dtype=torch.float64)
                self.tensors[tensor.name] = value.requires_grad_(tensor.role.is_trained)
        trained = [value for value in self.tensors.values() if value.requires_grad]
        self.optimizer = torch.optim.SGD(
            trained, lr=0.0, momentum=momentum, weight_decay=weight_decay
        )

    def set_mask(self, mask: BoolArray) -> None:
        self.mask = mask
        self.masks = {
            tensor.name: torch.tensor(part.reshape(tensor.shape))
            for tensor, part in zip(
                self.plan.prunable, split(self.plan.prunable, mask), strict=True
            )
        }

    def train_step(self, samples: Float32Array, labels: IntArray, *, learning_rate: float) -> float:
        self.optimizer.zero_grad()
        logits = self.forward(samples, training=True)
        loss = F.cross_entropy(logits, torch.tensor(labels, dtype=torch.int64))
        loss.backward()
        for name, mask in self.masks.items():
            gradient = self.tensors[name].grad
            if gradient is not None:
                gradient *= mask
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.step()
        return float(loss.detach())

    def logits(self, samples: Float32Array) -> np.ndarray[Any, np.dtype[np.float64]]:
        with torch.no_grad():
            return np.asarray(self.forward(samples, training=False), np.float64)

    def weights(self) -> Weights:
        """Rounded to float32 at the very end."""
        prunable, dense = (
            np.concatenate(
                [np.zeros(0), *(self.tensors[t.name].detach().numpy().ravel() for t in tensors)]
            )
            for tensors in (self.plan.prunable, self.plan.dense)
        )
        return Weights(
            prunable=prunable[self.mask].astype(np.float32), dense=dense.astype(np.float32)
        )

    def replace_mask(self, mask: BoolArray, kept: Float32Array) -> None:
        """Values and momentum go where the new mask drops; grown weights start without momentum."""
        full = np.zeros(self.plan.num_prunable)
        full[mask] = kept
        both = self.mask & mask
        self.set_mask(mask)
        parts = zip(
            self.plan.prunable, split(self.plan.prunable, full), split(self.plan.prunable, both),
            strict=True,
        )  # fmt: skip
        with torch.no_grad():
            for tensor, part, shared in parts:
                value = self.tensors[tensor.name]
                value.copy_(torch.tensor(part.reshape(tensor.shape)))
                state = self.optimizer.state[value]
                if state.get("momentum_buffer") is not None:
                    state["momentum_buffer"] *= torch.tensor(shared.reshape(tensor.shape))

    def forward(self, samples: Float32Array, *, training: bool) -> torch.Tensor:
        values = {INPUT: torch.tensor(samples, dtype=torch.float64)}
        for node in self.plan.nodes:
            inputs = [values[name] for name in node.inputs]
            values[node.name] = self._run(node, inputs, training)
        return values[self.plan.nodes[-1].name]

    def _run(self, node: Node, inputs: list[torch.Tensor], training: bool) -> torch.Tensor:
        operator, x = node.operator, inputs[0]
        owned = {
            name.rpartition(".")[2]: value
            for name, value in self.tensors.items()
            if name.rpartition(".")[0] == node.name
        }
        if isinstance(operator, Linear):
            return F.linear(x, owned["weight"], owned.get("bias"))
        if isinstance(operator, Conv):
            run = F.conv1d if len(operator.kernel) == 1 else F.conv2d
            return run(padded(x, operator.pads), owned["weight"], owned.get("bias"),
                       stride=operator.stride)  # fmt: skip
        if isinstance(operator, BatchNorm):
            return F.batch_norm(
                x, owned["running_mean"], owned["running_var"], owned["weight"], owned["bias"],
                training, operator.momentum, operator.eps,
            )  # fmt: skip
        if isinstance(operator, AvgPool):
            run = F.avg_pool1d if len(operator.kernel) == 1 else F.avg_pool2d
            return run(padded(x, operator.pads), operator.kernel, operator.stride)
        if isinstance(operator, MaxPool):
            run = F.max_pool1d if len(operator.kernel) == 1 else F.max_pool2d
            return run(padded(x, operator.pads, -torch.inf), operator.kernel, operator.stride)
        if isinstance(operator, GlobalAvgPool):
            return x.flatten(2).mean(2)
        if isinstance(operator, Relu):
            return F.relu(x)
        if isinstance(operator, Add):
            return inputs[0] + inputs[1]
        assert isinstance(operator, Flatten)
        return x.flatten(1)


def padded(x: torch.Tensor, pads: tuple[tuple[int, int], ...], value: float = 0.0) -> torch.Tensor:
    """Asymmetric pads, which torch's own operators do not take."""
    return F.pad(x, [side for pair in reversed(pads) for side in pair], value=value)


def split(tensors: tuple[Tensor, ...], flat: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The flat vector's part of each tensor."""
    ends = np.cumsum([tensor.size for tensor in tensors])
    return np.split(flat, ends[:-1]) if tensors else []
