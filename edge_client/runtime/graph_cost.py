"""What training through onnxruntime will cost, before anything is opened: plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from edge_client.runtime.cost import Cost
from edge_client.runtime.micro_batches import passes
from edge_client.runtime.program import FLOAT_BYTES
from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.plan.training_graph import TrainingGraph, bytes_at

# Measured with onnxruntime 1.32 on x86-64: what a session takes whatever its model (the first one
# loads code), and what each node of the model adds.
SESSION_BYTES: Final = 11 << 20
NODE_BYTES: Final = 4 << 10


def graph_cost(
    plan: Plan,
    kept: Sequence[int],
    batch_size: int,
    *,
    graph: TrainingGraph,
    momentum: bool = True,
    setup: EngineSetup | None = None,
) -> Cost:
    """The cost of `GraphEngine` for a plan under a mask.

    The peak is over what the process is with Python, numpy and onnxruntime loaded. Density saves
    gradients and momentum, and neither time nor activations: the graph computes with dense tensors.

    Args:
        plan: the model.
        kept: kept weights of each prunable tensor, in plan order.
        batch_size: the largest batch, which `multiply_adds` is for.
        graph: whose header has the model's own figures.
        momentum: whether SGD has momentum.
        setup: how steps are run; by default whole batches.

    Raises:
        EngineError: a count does not fit its tensor.
    """
    if len(kept) != len(plan.prunable) or any(
        not 0 <= count <= tensor.size for count, tensor in zip(kept, plan.prunable, strict=True)
    ):
        raise EngineError(f"the kept weights {tuple(kept)} do not fit plan '{plan.name}'")
    micro_batch = min(setup.micro_batch if setup else batch_size, batch_size)
    times = passes(batch_size, micro_batch)
    trained = sum(tensor.size for tensor in plan.dense if tensor.role.is_trained)
    dense = plan.num_prunable + plan.num_dense
    indices, states = sum(kept), (sum(kept) + trained) * (2 if momentum else 1)
    gradients = (sum(kept) + trained) * (2 if times > 1 else 1)
    statistics = 2 * sum(t.size for t in plan.dense if not t.role.is_trained)
    draws = batch_size * sum(graph.draws)
    live = bytes_at(graph.live_bytes, micro_batch)
    values = FLOAT_BYTES * (dense + indices + states - sum(kept) - trained + gradients + statistics)
    peak_bytes = (
        SESSION_BYTES
        + NODE_BYTES * graph.nodes
        + live
        + _fragments(live)
        + values
        + FLOAT_BYTES * draws
    )
    return Cost(peak_bytes=peak_bytes, multiply_adds=batch_size * graph.multiply_adds)


def _fragments(live_bytes: int) -> int:
    """What the arena takes beyond what is alive, since freed pieces do not fit what comes next.

    A fit to measurements from 2 to 45 MiB, within 1 MiB of each: 60 % of a little, 22 % of much.
    """
    mib = live_bytes / 2**20
    return int(min(0.6 * mib, 1.48 * math.sqrt(mib)) * 2**20)
