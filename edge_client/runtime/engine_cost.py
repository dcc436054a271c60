"""What the engine of a setup will cost before anything is allocated: memory and work (no numpy)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_client.runtime.cost import Cost, sparse_cost
from edge_client.runtime.graph_cost import graph_cost
from edge_client.runtime.setup import EngineSetup
from fedsparse.plan import Plan
from fedsparse.plan.training_graph import TrainingGraph

IMPORT_BYTES: Final = 20 << 20  # what importing onnxruntime 1.32 adds to a trainer on x86-64


def engine_cost(
    plan: Plan,
    kept: Sequence[int],
    batch_size: int,
    setup: EngineSetup,
    *,
    graph: TrainingGraph | None = None,
) -> Cost:
    """Peak memory of the engine that `setup` names, momentum included, and the work of its step.

    The peak is over a trainer that has imported what every task of the plan needs: onnxruntime only
    where the plan is a training graph (`edge_client/trainer/calibrate.py`).

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
        cost = graph_cost(plan, kept, batch_size, graph=graph, setup=setup)
        return cost if plan.is_opaque else cost.with_more(IMPORT_BYTES)
    return sparse_cost(plan, kept, batch_size, setup=setup)
