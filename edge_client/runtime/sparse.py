"""The native engine: sparse training without torch."""

from __future__ import annotations

import numpy as np

from edge_client.runtime.execution import Execution
from edge_client.runtime.fitting import as_batch, as_samples, check_loss, check_weights
from edge_client.runtime.lowering import lower
from edge_client.runtime.micro_batches import divided
from edge_client.runtime.native.library import Library, load_library
from edge_client.runtime.parameters import Parameters
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.targets import as_targets
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.sparsity.masks import counts_of
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights


class SparseEngine:
    """Trains a plan under a mask; what is not kept costs neither memory nor time.

    Follows the protocol `edge_client.runtime.engine.Engine`. Not for use by two threads at once.

    Args:
        plan: the model.
        mask: `(num_prunable,)`, True = kept; copied.
        weights: kept values `(nnz,)` in plan order, dense tensors `(num_dense,)`; copied.
        batch_size: the largest batch of `train_step`.
        setup: how steps are run; by default whole batches, sparse kernels, one thread.
        momentum, weight_decay: of SGD, as in `torch.optim.SGD`.
        seed: of dropout, from 0 to 2^32 - 1; a step's draws follow from it and from the number of
            steps before, not from micro-batches or threads.
        library: the kernels; by default the installed ones.

    Raises:
        EngineError: mask or weights do not fit the plan, or the kernels do not load.
    """

    def __init__(
        self,
        plan: Plan,
        mask: BoolArray,
        weights: Weights,
        *,
        batch_size: int,
        setup: EngineSetup | None = None,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        seed: int = 0,
        library: Library | None = None,
    ) -> None:
        if batch_size < 1:
            raise EngineError(f"the batch size must be at least 1, got {batch_size}")
        self.plan = plan
        self.batch_size = batch_size
        self.setup = setup or EngineSetup(micro_batch=batch_size)
        self._micro_batch = min(self.setup.micro_batch, batch_size)
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._seed = seed
        self._steps = 0
        self._library = library or load_library()
        check_weights(self.plan, mask, weights)
        self._build(mask, weights)

    def train_step(
        self, samples: Float32Array, labels: IntArray | Float32Array, *, learning_rate: float
    ) -> float:
        """See `Engine`; raises `EngineError` also for samples or labels that do not fit."""
        samples = as_batch(self.plan, samples, self.batch_size)
        batch = len(samples)
        targets = as_targets(self.plan, labels, batch)
        execution = self._execution
        self._steps += 1
        execution.begin(batch, seed=self._seed << 32 | self._steps)
        loss = 0.0
        for part in self._parts(batch):
            execution.forward(samples[part], training=True)
            loss = execution.loss(targets[part])
            check_loss(loss)
            execution.backward(part.stop - part.start, learning_rate)
        execution.finish()
        return loss

    def take_pages(self) -> None:
        """Take the memory of steps from the system before the first one is timed."""
        self._execution.take_pages()

    def _parts(self, batch: int) -> list[slice]:
        parts = divided(batch, self._micro_batch)
        lone_norms = self.program.lone_norms
        if parts[0].stop == 1 and lone_norms:
            raise EngineError(
                f"a batch of one has no variance for batch-norm '{lone_norms[0]}': drop the "
                f"last sample, or choose a batch size that leaves two or more"
            )
        return parts

    def logits(self, samples: Float32Array) -> Float32Array:
        """See `Engine`; takes any number of samples, a micro-batch at a time."""
        samples = as_samples(self.plan, samples)
        result = np.empty((len(samples), self.plan.classes), np.float32)
        for start in range(0, len(samples), self._micro_batch):
            chunk = samples[start : start + self._micro_batch]
            result[start : start + len(chunk)] = self._execution.forward(chunk, training=False).T
        return result

    def weights(self) -> Weights:
        """See `Engine`."""
        return Weights(prunable=self._parameters.kept.copy(), dense=self._parameters.dense.copy())

    def replace_mask(self, mask: BoolArray, kept: Float32Array) -> None:
        """See `Engine`; raises `EngineError`, and changes nothing, if mask or values do not fit."""
        old = self._parameters
        weights = Weights(prunable=kept, dense=old.dense)
        check_weights(self.plan, mask, weights)
        old_mask = np.unpackbits(self._packed_mask, count=mask.size).view(np.bool_)
        kept_velocity, dense_velocity = old.kept_velocity, old.dense_velocity
        del old, self._execution, self._parameters  # their memory goes before the new is taken
        self._build(mask, weights)
        if self._momentum > 0:
            self._parameters.dense_velocity[:] = dense_velocity
            self._parameters.kept_velocity[old_mask[mask]] = kept_velocity[mask[old_mask]]

    def restart(self, weights: Weights, *, seed: int = 0) -> None:
        """See `Engine`; raises `EngineError`, and changes nothing, if the weights do not fit."""
        mask = np.unpackbits(self._packed_mask, count=self.plan.num_prunable).view(np.bool_)
        check_weights(self.plan, mask, weights)
        parameters = self._parameters
        parameters.kept[:], parameters.dense[:] = weights.prunable, weights.dense
        parameters.kept_velocity[:] = 0
        parameters.dense_velocity[:] = 0
        self._seed, self._steps = seed, 0

    def _build(self, mask: BoolArray, weights: Weights) -> None:
        program = lower(
            self.plan,
            counts_of(self.plan, mask),
            momentum=self._momentum,
            weight_decay=self._weight_decay,
            accumulate=self._micro_batch < self.batch_size,
            dense_layers=self.setup.dense_layers,
        )
        self.program = program
        self._packed_mask = np.packbits(mask)
        self._parameters = Parameters(
            self.plan,
            program,
            np.ascontiguousarray(mask),
            weights,
            with_velocity=self._momentum > 0,
            library=self._library,
        )
        self._execution = Execution(
            program,
            self._parameters,
            self._micro_batch,
            self._library,
            threads=self.setup.threads,
            shared_work=self.setup.shared_work,
        )
