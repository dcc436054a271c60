"""What the engine of a setup will cost before anything is allocated: memory and work (no numpy)."""

from __future__ import annotations

from collections.abc import Sequence

from edge_client.runtime.cost import Cost, sparse_cost
from edge_client.runtime.graph_cost import graph_cost
from edge_client.runtime.setup import EngineSetup
from fedsparse.plan import Plan
from fedsparse.plan.training_graph import TrainingGraph


def engine_cost(
    plan: Plan,
    kept: Sequence[int],
    batch_size: int,
    setup: EngineSetup,
    *,
    graph: TrainingGraph | None = None,
) -> Cost:
    """Peak memory of the engine that `setup` names, momentum included, and the work of its step.

    Args:
        plan: the model.
        kept: kept weights of each prunable tensor, in plan order.
        batch_size: samples of a step.
        setup: how steps are run.
        graph: the model's training graph, where it has one.

    Raises:
        EngineError: a count does not fit its tensor, or the engine cannot run the plan.
    """
    if setup.engine == "graph" and graph is not None:
        return graph_cost(plan, kept, batch_size, graph=graph, setup=setup)
    return sparse_cost(plan, kept, batch_size, setup=setup)
