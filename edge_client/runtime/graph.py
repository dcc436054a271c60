"""The graph engine: masked training through onnxruntime, for any model that torch can run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_client.runtime.fitting import as_batch, as_samples, check_loss, check_weights
from edge_client.runtime.masked_sgd import MaskedTensor
from edge_client.runtime.micro_batches import divided
from edge_client.runtime.onnx_session import Array, OnnxSession
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.targets import Targets, as_targets
from fedsparse.errors import EngineError
from fedsparse.plan import Loss, Plan
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights


class GraphEngine:
    """Trains a plan under a mask with its training graph; follows `edge_client.runtime.engine`.

    The graph computes with dense tensors; momentum, gradients and updates exist at the kept
    positions alone. One onnxruntime session is open at a time, that of training or of inference.

    Args:
        plan: the model.
        mask: `(num_prunable,)`, True = kept; copied.
        weights: kept values `(nnz,)` in plan order, dense tensors `(num_dense,)`; copied.
        graph: the training graph, or its file.
        batch_size: the largest batch of `train_step`.
        setup: micro-batch and threads; by default whole batches and one thread.
        momentum, weight_decay: of SGD, as in `torch.optim.SGD`.
        seed: of dropout; a step's draws follow from it and from the number of steps before, not
            from micro-batches or threads.

    Raises:
        EngineError: onnxruntime is missing; the graph is damaged or of another plan; mask or
            weights do not fit the plan.
    """

    def __init__(
        self,
        plan: Plan,
        mask: BoolArray,
        weights: Weights,
        *,
        graph: bytes | Path | TrainingGraph,
        batch_size: int,
        setup: EngineSetup | None = None,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            raise EngineError(f"the batch size must be at least 1, got {batch_size}")
        check_weights(plan, mask, weights)
        self.plan = plan
        self.batch_size = batch_size
        self.setup = setup or EngineSetup(engine="graph", micro_batch=batch_size)
        self._micro_batch = min(self.setup.micro_batch, batch_size)
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._seed = seed
        self._steps = 0
        self.graph = _read(graph)
        _check_names(plan, self.graph)
        self._sessions: dict[str, OnnxSession] = {}
        self._tensors: dict[str, MaskedTensor] = {}
        self._set(mask, weights)
        self._session("training")

    def train_step(
        self, samples: Float32Array, labels: IntArray | Float32Array, *, learning_rate: float
    ) -> float:
        """See `Engine`; raises `EngineError` also for samples or labels that do not fit."""
        samples = as_batch(self.plan, samples, self.batch_size)
        batch = len(samples)
        targets = as_targets(self.plan, labels, batch)
        parts = self._parts(batch)
        self._steps += 1
        draws = self._draws(batch)
        loss, gradients, statistics = 0.0, dict[str, Array](), dict[str, Array]()
        for part in parts:
            share = np.float32((part.stop - part.start) / batch)
            found = self._run_training(samples, targets, draws, part, statistics)
            loss += float(found.pop("loss")) * float(share)
            check_loss(loss)
            _take(found, share, gradients, statistics)
        for name, value in statistics.items():
            self._tensors[name].values[...] = value
        for name in list(gradients):
            self._tensors[name].step(gradients.pop(name), learning_rate, self._weight_decay)
        return loss

    def logits(self, samples: Float32Array) -> Float32Array:
        """See `Engine`; takes any number of samples, a micro-batch at a time."""
        samples = as_samples(self.plan, samples)
        result = np.empty((len(samples), self.plan.classes), np.float32)
        session = self._session("inference")
        values = {name: tensor.values for name, tensor in self._tensors.items()}
        for start in range(0, len(samples), self._micro_batch):
            chunk = samples[start : start + self._micro_batch]
            found = session.run(["outputs"], {"samples": chunk, **values})
            result[start : start + len(chunk)] = found["outputs"]
        return result

    def weights(self) -> Weights:
        """See `Engine`."""
        prunable = [self._tensors[tensor.name].kept_values() for tensor in self.plan.prunable]
        dense = [self._tensors[tensor.name].kept_values() for tensor in self.plan.dense]
        empty = np.empty(0, np.float32)
        return Weights(
            prunable=np.concatenate([empty, *prunable]), dense=np.concatenate([empty, *dense])
        )

    def replace_mask(self, mask: BoolArray, kept: Float32Array) -> None:
        """See `Engine`; raises `EngineError`, and changes nothing, if mask or values do not fit."""
        check_weights(self.plan, mask, Weights(prunable=kept, dense=self.weights().dense))
        for tensor, part, values in _split(self.plan, mask, kept):
            old = self._tensors[tensor]
            new = _masked(old.values.shape, part, values, self._momentum)
            if self._momentum > 0:
                _, before, after = np.intersect1d(
                    old.positions, new.positions, assume_unique=True, return_indices=True
                )
                new.velocity[after] = old.velocity[before]
            self._tensors[tensor] = new

    def restart(self, weights: Weights, *, seed: int = 0) -> None:
        """See `Engine`; raises `EngineError`, and changes nothing, if the weights do not fit."""
        mask = np.zeros(self.plan.num_prunable, np.bool_)
        start = 0
        for tensor in self.plan.prunable:
            mask[start + self._tensors[tensor.name].positions] = True
            start += tensor.size
        check_weights(self.plan, mask, weights)
        self._set(mask, weights)
        self._seed, self._steps = seed, 0

    def _set(self, mask: BoolArray, weights: Weights) -> None:
        shapes = {tensor.name: tensor.shape for tensor in self.plan.tensors}
        for name, part, values in _split(self.plan, mask, weights.prunable):
            self._tensors[name] = _masked(shapes[name], part, values, self._momentum)
        start = 0
        for tensor in self.plan.dense:
            values = weights.dense[start : start + tensor.size].astype(np.float32)
            momentum = self._momentum if tensor.role.is_trained else 0.0
            self._tensors[tensor.name] = MaskedTensor(
                values.reshape(tensor.shape), None, momentum=momentum
            )
            start += tensor.size

    def _session(self, kind: str) -> OnnxSession:
        """The open session of this kind; the other one's memory goes first."""
        if kind not in self._sessions:
            self._sessions.clear()
            model = self.graph.training if kind == "training" else self.graph.inference
            session = OnnxSession(model, self.setup.threads)
            _check_inputs(self.plan, self.graph, session, kind)
            self._sessions[kind] = session
        return self._sessions[kind]

    def _parts(self, batch: int) -> list[slice]:
        parts = divided(batch, self._micro_batch)
        if parts[0].stop < self.graph.least_batch:
            raise EngineError(
                "a batch of one has no variance for the model's batch-norm: drop the last sample, "
                "or choose a batch size that leaves two or more"
            )
        return parts

    def _draws(self, batch: int) -> list[Float32Array]:
        rng = np.random.default_rng([self._seed, self._steps]) if self.graph.draws else None
        return [rng.random((batch, n), dtype=np.float32) for n in self.graph.draws if rng]

    def _run_training(
        self,
        samples: Float32Array,
        targets: Targets,
        draws: list[Float32Array],
        part: slice,
        statistics: Mapping[str, Array],
    ) -> dict[str, Array]:
        session = self._session("training")
        values = {name: tensor.values for name, tensor in self._tensors.items()}
        kept = {f"kept:{name}": self._tensors[name].positions for name in self.graph.prunable}
        is_class = self.plan.loss is Loss.CROSS_ENTROPY
        feed = {
            "samples": samples[part],
            "targets": targets[part].astype(np.int64 if is_class else np.float32, copy=False),
            **values,
            **statistics,
            **kept,
            **{f"draw:{i}": numbers[part] for i, numbers in enumerate(draws)},
        }
        return session.run(session.outputs, feed)


def _read(graph: bytes | Path | TrainingGraph) -> TrainingGraph:
    if isinstance(graph, TrainingGraph):
        return graph
    if isinstance(graph, bytes):
        return TrainingGraph.from_bytes(graph)
    try:
        return TrainingGraph.from_bytes(graph.read_bytes())
    except OSError as error:
        raise EngineError(f"{graph}: cannot be read: {error.strerror}") from error


def _check_names(plan: Plan, graph: TrainingGraph) -> None:
    if plan.graph and plan.graph != graph.digest:
        raise EngineError(
            f"plan '{plan.name}' is the training graph {plan.graph[:12]}, this one is "
            f"{graph.digest[:12]}: ask for it again"
        )
    tensors = {tensor.name for tensor in plan.tensors}
    prunable = tuple(tensor.name for tensor in plan.prunable)
    if set(graph.tensors) != tensors or graph.prunable != prunable:
        raise EngineError(
            f"the training graph is not that of plan '{plan.name}': their tensors differ "
            f"({', '.join(sorted(tensors ^ set(graph.tensors))[:5]) or 'in what is pruned'})"
        )


def _check_inputs(plan: Plan, graph: TrainingGraph, session: OnnxSession, kind: str) -> None:
    """The model itself, for its header may be another's."""
    shapes: dict[str, list[int | None]] = {t.name: [*t.shape] for t in plan.tensors}
    wanted: dict[str, list[int | None]] = {**shapes, "samples": [None, *plan.input_shape]}
    if kind == "training":
        is_class = plan.loss is Loss.CROSS_ENTROPY
        target: list[int | None] = [None] if is_class else [None, plan.classes]
        wanted |= {"targets": target, **{f"kept:{name}": [None] for name in graph.prunable}}
        wanted |= {f"draw:{i}": [None, n] for i, n in enumerate(graph.draws)}
    for name in wanted.keys() | session.inputs.keys():
        shape = session.inputs.get(name, ("", None))[1]
        if name not in wanted or shape is None or not _fits(shape, wanted[name]):
            raise EngineError(
                f"the training graph does not fit plan '{plan.name}': its input '{name}' is "
                f"{shape}, not {wanted.get(name)}"
            )


def _fits(shape: list[int | str], wanted: list[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        isinstance(have, str) if want is None else have == want
        for have, want in zip(shape, wanted, strict=True)
    )


def _take(
    found: dict[str, Array],
    share: np.float32,
    gradients: dict[str, Array],
    statistics: dict[str, Array],
) -> None:
    """Add a micro-batch's gradients, by its share of the batch; keep its running statistics."""
    for output in list(found):
        kind, _, name = output.partition(":")
        value = found.pop(output)
        if kind == "new":
            statistics[name] = value
        elif share == 1.0:
            gradients[name] = value
        elif name in gradients:
            value *= share
            gradients[name] += value
        else:
            value *= share
            gradients[name] = value


def _split(
    plan: Plan, mask: BoolArray, kept: Float32Array
) -> list[tuple[str, BoolArray, Float32Array]]:
    """Name, mask and kept values of each prunable tensor."""
    parts, start, first = [], 0, 0
    for tensor in plan.prunable:
        part = mask[start : start + tensor.size]
        count = int(np.count_nonzero(part))
        parts.append((tensor.name, part, kept[first : first + count]))
        start, first = start + tensor.size, first + count
    return parts


def _masked(
    shape: tuple[int, ...], mask: BoolArray, kept: Float32Array, momentum: float
) -> MaskedTensor:
    values = np.zeros(shape, np.float32)
    positions = np.flatnonzero(mask).astype(np.int32)
    values.reshape(-1)[positions] = kept
    return MaskedTensor(values, positions, momentum=momentum)
