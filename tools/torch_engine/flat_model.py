"""A torch module whose tensors lie side by side in one vector, in plan order."""

from __future__ import annotations

import numpy as np
import torch

from aggregator.models.to_torch import to_torch
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Float32Array, Weights


class FlatModel:
    """A plan's module, its values in one vector and its gradients in another.

    Masks, momentum and weight decay then take a few operations on whole vectors, not a few for each
    tensor, and what comes and goes as flat vectors is copied in one piece.

    Attributes:
        module: what runs; its parameters and running statistics are views of `values`.
        values: `(num_prunable + num_dense,)`, prunable tensors in plan order, then dense ones.
        gradient: likewise; a backward pass adds to it. Zero where there is no gradient.

    Raises:
        PlanError: torch cannot run the plan.
    """

    def __init__(self, plan: Plan, *, device: torch.device, dtype: torch.dtype) -> None:
        self.module = to_torch(plan).to(device=device, dtype=dtype)
        tensors = (*plan.prunable, *plan.dense)
        self.values = torch.zeros(sum(t.size for t in tensors), device=device, dtype=dtype)
        self.gradient = torch.zeros_like(self.values)
        self._num_prunable = plan.num_prunable
        parameters = dict(self.module.named_parameters())
        homes = parameters | dict(self.module.named_buffers())
        sizes = [tensor.size for tensor in tensors]
        parts = zip(tensors, self.values.split(sizes), self.gradient.split(sizes), strict=True)
        for tensor, values, gradient in parts:
            homes[tensor.name].data = values.view(tensor.shape)
            if tensor.name in parameters:
                parameters[tensor.name].grad = gradient.view(tensor.shape)

    @property
    def prunable(self) -> torch.Tensor:
        """The view of the prunable values, `(num_prunable,)`."""
        return self.values[: self._num_prunable]

    @property
    def dense(self) -> torch.Tensor:
        """The view of the dense values, `(num_dense,)`."""
        return self.values[self._num_prunable :]

    def load_kept(self, mask: BoolArray, kept: Float32Array) -> None:
        """Take `kept` `(nnz,)` at the positions of `mask` `(num_prunable,)`, zeros elsewhere."""
        full = np.zeros(mask.size, np.float32)
        full[mask] = kept
        self.prunable.copy_(torch.from_numpy(full))

    def load(self, mask: BoolArray, weights: Weights) -> None:
        """Take kept weights and dense tensors, as `edge_client.runtime.engine.Engine` has them."""
        self.load_kept(mask, weights.prunable)
        self.dense.copy_(torch.tensor(weights.dense))
