"""Masked SGD in torch: dense tensors, of which only the kept positions move.

Needs torch, which is an extra: import this module where it is used. How many threads torch takes is
the process's choice (`torch.set_num_threads`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from aggregator.models.to_torch import loss_function
from edge_client.runtime.fitting import as_batch, as_samples, check_loss, check_weights
from edge_client.runtime.targets import as_targets
from fedsparse.errors import ConfigError, EngineError
from fedsparse.plan import Dropout, Loss, Plan
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights
from tools.torch_engine.flat_model import FlatModel


class TorchEngine:
    """Trains a plan under a mask in torch; follows `edge_client.runtime.engine.Engine`.

    What is not kept is exactly zero, has no gradient, no momentum and no weight decay. On a CPU a
    seed gives the same model to the bit; on a GPU some of torch's kernels, such as the way back of
    overlapping max pooling, add in any order.

    Args:
        plan: the model.
        mask: `(num_prunable,)`, True = kept; copied.
        weights: kept values `(nnz,)` in plan order, dense tensors `(num_dense,)`; copied.
        batch_size: the largest batch of `train_step`.
        momentum, weight_decay: of SGD, as in `torch.optim.SGD`.
        seed: of dropout, from 0 to 2^32 - 1; a step's draws follow from it and from the number of
            steps before. They are not those of other engines.
        device: torch's name of it, such as `cpu` or `cuda`.
        dtype: torch.float32, or torch.float64 for an oracle; weights and logits are rounded to
            float32 when they are asked for.
        softmax_first: whether training puts a softmax before the cross-entropy, which has one of
            its own. The reference code's MNISTNet does; to learn what that does, not for use.

    Raises:
        ConfigError: torch has no such device here.
        EngineError: mask or weights do not fit the plan, or its loss takes no softmax.
        PlanError: the plan has an operator that torch cannot run.
    """

    def __init__(
        self,
        plan: Plan,
        mask: BoolArray,
        weights: Weights,
        *,
        batch_size: int,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        seed: int = 0,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        softmax_first: bool = False,
    ) -> None:
        if batch_size < 1:
            raise EngineError(f"the batch size must be at least 1, got {batch_size}")
        if softmax_first and plan.loss is not Loss.CROSS_ENTROPY:
            raise EngineError(f"a softmax comes before cross-entropy, not before {plan.loss.value}")
        check_weights(plan, mask, weights)
        self.plan = plan
        self.batch_size = batch_size
        self._device = _find_device(device)
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._seed = seed
        self._steps = 0
        self._draws = any(isinstance(node.operator, Dropout) for node in plan.nodes)
        self._lone_norm = _lone_norm(plan)
        self._loss = loss_function(plan.loss)
        self._softmax_first = softmax_first
        self._model = FlatModel(plan, device=self._device, dtype=dtype)
        self._velocity = torch.zeros_like(self._model.values)
        self._set_mask(mask)
        self._model.load(mask, weights)

    def train_step(
        self, samples: Float32Array, labels: IntArray | Float32Array, *, learning_rate: float
    ) -> float:
        """See `Engine`; raises `EngineError` also for samples or labels that do not fit."""
        samples = as_batch(self.plan, samples, self.batch_size)
        self._check_norm(len(samples))
        targets = self._targets(labels, len(samples))
        self._steps += 1
        self._model.gradient.zero_()
        self._model.module.train()
        with _exact_convolutions(), self._dropout():
            outputs = self._model.module(self._inputs(samples))
            loss = self._loss(outputs.softmax(1) if self._softmax_first else outputs, targets)
            value = float(loss.detach())
            check_loss(value)
            loss.backward()
        self._descend(learning_rate)
        return value

    def logits(self, samples: Float32Array) -> Float32Array:
        """See `Engine`; takes any number of samples, a batch at a time."""
        samples = as_samples(self.plan, samples)
        result = np.empty((len(samples), self.plan.classes), np.float32)
        self._model.module.eval()
        with _exact_convolutions(), torch.no_grad():
            for start in range(0, len(samples), self.batch_size):
                part = slice(start, start + self.batch_size)
                result[part] = self._model.module(self._inputs(samples[part])).cpu().numpy()
        return result

    def weights(self) -> Weights:
        """See `Engine`."""
        prunable, dense = self._model.prunable.cpu().numpy(), self._model.dense.cpu().numpy()
        return Weights(
            prunable=prunable[self._mask].astype(np.float32), dense=dense.astype(np.float32)
        )

    def replace_mask(self, mask: BoolArray, kept: Float32Array) -> None:
        """See `Engine`; raises `EngineError`, and changes nothing, if mask or values do not fit."""
        check_weights(self.plan, mask, Weights(prunable=kept, dense=self.weights().dense))
        self._set_mask(mask)
        self._velocity.masked_fill_(self._still, 0.0)  # what is new had none
        self._model.load_kept(mask, kept)

    def restart(self, weights: Weights, *, seed: int = 0) -> None:
        """See `Engine`; raises `EngineError`, and changes nothing, if the weights do not fit."""
        check_weights(self.plan, self._mask, weights)
        self._model.load(self._mask, weights)
        self._velocity.zero_()
        self._seed, self._steps = seed, 0

    def _set_mask(self, mask: BoolArray) -> None:
        self._mask = mask.copy()
        trained = [np.full(tensor.size, tensor.role.is_trained) for tensor in self.plan.dense]
        still = ~np.concatenate([mask, *trained])  # where no step moves anything
        self._still = torch.tensor(still, device=self._device)

    def _descend(self, learning_rate: float) -> None:
        values, change = self._model.values, self._model.gradient
        if self._weight_decay:
            change.add_(values, alpha=self._weight_decay)
        change.masked_fill_(self._still, 0.0)
        if self._momentum > 0:
            change = self._velocity.mul_(self._momentum).add_(change)
        values.add_(change, alpha=-learning_rate)

    def _inputs(self, samples: Float32Array) -> torch.Tensor:
        """Samples on the device; images with their channels last, which torch convolves faster."""
        inputs = torch.tensor(samples, device=self._device, dtype=self._model.values.dtype)
        return inputs.to(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs

    def _targets(self, labels: IntArray | Float32Array, batch: int) -> torch.Tensor:
        is_class = self.plan.loss is Loss.CROSS_ENTROPY
        dtype = torch.int64 if is_class else self._model.values.dtype
        return torch.tensor(as_targets(self.plan, labels, batch), device=self._device, dtype=dtype)

    def _check_norm(self, batch: int) -> None:
        if batch == 1 and self._lone_norm:
            raise EngineError(
                f"a batch of one has no variance for batch-norm '{self._lone_norm}': drop the "
                f"last sample, or choose a batch size that leaves two or more"
            )

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        """Draws follow from seed and step; torch's generator is afterwards as it was before."""
        if not self._draws:
            yield
            return
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            # Mixed into 32 bits, for of a longer seed torch's generator on the CPU takes no more.
            mixed = np.random.SeedSequence([self._seed, self._steps]).generate_state(1)
            torch.manual_seed(int(mixed[0]))
            yield


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """On a GPU: whole float32 products (no TF32), and no choice of kernels by their speed."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def _find_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter: a torch without CUDA
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"torch cannot train on '{name}' here ({reason}): try 'cpu'") from error
    return device


def _lone_norm(plan: Plan) -> str:
    """A batch-norm that sees one value of a channel for each sample; empty: there is none."""
    lone = (
        node.name
        for node in plan.nodes
        if node.operator.normalises_batch and math.prod(plan.shapes[node.name][1:]) == 1
    )
    return next(lone, "")
