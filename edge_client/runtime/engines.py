"""The engine of a setup; what an engine needs is imported when it is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edge_client.runtime.engine import Engine
from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """What a step does with a gradient: SGD as in `torch.optim.SGD`.

    Attributes:
        momentum, weight_decay: of SGD.
        power: of `edge_client.runtime.powerpropagation`; 1 trains the weights themselves.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    power: float = 1.0

    @property
    def of_engine(self) -> Optimizer:
        """What the engine itself is to do: with a power, momentum and decay are not its own."""
        return self if self.power == 1.0 else Optimizer(momentum=0.0, weight_decay=0.0)


def open_engine(
    plan: Plan,
    mask: BoolArray,
    weights: Weights,
    *,
    batch_size: int,
    setup: EngineSetup,
    optimizer: Optimizer,
    graph: Path | None = None,
    seed: int = 0,
) -> Engine:
    """The engine that `setup` names, ready to train (`edge_client.runtime.engine.Engine`).

    Args:
        plan: the model.
        mask, weights: as `Engine` says.
        batch_size: the largest batch.
        setup: how steps are run.
        optimizer: what they do.
        graph: the file of the model's training graph, which the engine `graph` needs.
        seed: of dropout.

    Raises:
        EngineError: mask or weights do not fit the plan, or the engine does not run here.
    """
    if optimizer.power != 1.0:
        inner = open_engine(
            plan, mask, weights, batch_size=batch_size, setup=setup,
            optimizer=optimizer.of_engine, graph=graph, seed=seed,
        )  # fmt: skip
        return with_power(inner, plan, mask, optimizer, seed=seed)
    if setup.engine == "graph":
        if graph is None:
            raise EngineError(f"the graph engine needs a training graph of '{plan.name}'")
        from edge_client.runtime.graph import GraphEngine

        return GraphEngine(
            plan,
            mask,
            weights,
            graph=graph,
            batch_size=batch_size,
            setup=setup,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            seed=seed,
        )
    from edge_client.runtime.sparse import SparseEngine

    return SparseEngine(
        plan,
        mask,
        weights,
        batch_size=batch_size,
        setup=setup,
        momentum=optimizer.momentum,
        weight_decay=optimizer.weight_decay,
        seed=seed,
    )


def with_power(
    engine: Engine, plan: Plan, mask: BoolArray, optimizer: Optimizer, *, seed: int = 0
) -> Engine:
    """An engine opened with `optimizer.of_engine`, as one that does what `optimizer` says."""
    if optimizer.power == 1.0:
        return engine
    from edge_client.runtime.powerpropagation import Powerpropagation

    return Powerpropagation(
        engine, plan, mask, beta=optimizer.power, momentum=optimizer.momentum,
        weight_decay=optimizer.weight_decay, seed=seed,
    )  # fmt: skip


def graph_engine_is_here(graph: Path | None) -> bool:
    """Whether there is a graph, and onnxruntime to run it with."""
    return graph is not None and find_spec("onnxruntime") is not None
