"""The engine of a setup; what an engine needs is imported when it is chosen."""

from __future__ import annotations

from dataclasses import dataclass

from edge_client.runtime.engine import Engine
from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """What a step does with a gradient: SGD as in `torch.optim.SGD`."""

    momentum: float = 0.9
    weight_decay: float = 0.0


def open_engine(
    plan: Plan,
    mask: BoolArray,
    weights: Weights,
    *,
    batch_size: int,
    setup: EngineSetup,
    optimizer: Optimizer,
    seed: int = 0,
) -> Engine:
    """The engine that `setup` names, ready to train (`edge_client.runtime.engine.Engine`).

    Raises:
        EngineError: mask or weights do not fit the plan, or the engine does not run here.
    """
    if setup.engine != "sparse":
        raise EngineError(f"this device has no engine '{setup.engine}' for '{plan.name}'")
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
