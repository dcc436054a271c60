"""A plan run by torch in float64, with masked weights: the oracle of the engine's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aggregator.models.to_torch import load_weights, loss_function, to_torch
from fedsparse.plan import Plan, Tensor
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
        self.module = to_torch(plan).double()
        self.loss = loss_function(plan.loss)
        self.parameters = dict(self.module.named_parameters())
        full = np.zeros(plan.num_prunable, np.float32)
        full[mask] = weights.prunable
        load_weights(self.module, plan, Weights(prunable=full, dense=weights.dense))
        self.set_mask(mask)
        self.optimizer = torch.optim.SGD(
            self.module.parameters(), lr=0.0, momentum=momentum, weight_decay=weight_decay
        )

    def set_mask(self, mask: BoolArray) -> None:
        self.mask = mask
        self.masks = {
            tensor.name: torch.tensor(part.reshape(tensor.shape))
            for tensor, part in zip(
                self.plan.prunable, split(self.plan.prunable, mask), strict=True
            )
        }

    def train_step(
        self,
        samples: Float32Array,
        labels: IntArray | Float32Array,
        *,
        learning_rate: float,
        micro_batch: int | None = None,
    ) -> float:
        self.optimizer.zero_grad()
        self.module.train()
        kind = torch.int64 if labels.dtype.kind in "iu" else torch.float64
        targets = torch.tensor(labels, dtype=kind)
        inputs = torch.tensor(samples, dtype=torch.float64)
        total, size = 0.0, micro_batch or len(samples)
        for start in range(0, len(samples), size):
            part = slice(start, start + size)
            share = len(inputs[part]) / len(samples)
            loss = share * self.loss(self.module(inputs[part]), targets[part])
            loss.backward()
            total += float(loss.detach())
        for name, mask in self.masks.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                gradient *= mask
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.step()
        return total

    def logits(self, samples: Float32Array) -> np.ndarray[Any, np.dtype[np.float64]]:
        self.module.eval()
        with torch.no_grad():
            return self.module(torch.tensor(samples, dtype=torch.float64)).numpy()

    def weights(self) -> Weights:
        """Rounded to float32 at the very end."""
        state = self.module.state_dict()
        prunable, dense = (
            np.concatenate([np.zeros(0), *(state[t.name].numpy().ravel() for t in tensors)])
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
                value = self.parameters[tensor.name]
                value.copy_(torch.tensor(part.reshape(tensor.shape)))
                state = self.optimizer.state[value]
                if state.get("momentum_buffer") is not None:
                    state["momentum_buffer"] *= torch.tensor(shared.reshape(tensor.shape))


def split(tensors: tuple[Tensor, ...], flat: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The flat vector's part of each tensor."""
    ends = np.cumsum([tensor.size for tensor in tensors])
    return np.split(flat, ends[:-1]) if tensors else []
