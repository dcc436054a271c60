"""All engines behind one constructor, for the tests that every engine must pass."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np

from aggregator.models.training_graph import plan_graph
from edge_client.runtime.engine import Engine
from edge_client.runtime.graph import GraphEngine
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import Plan, Role
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.types import BoolArray, Weights
from tools.torch_engine.engine import TorchEngine

ENGINES: Final = ("sparse", "graph", "torch")


@functools.cache
def graph_of(plan: Plan) -> TrainingGraph:
    return plan_graph(plan)


def make_engine(
    kind: str,
    plan: Plan,
    mask: BoolArray,
    weights: Weights,
    *,
    batch_size: int,
    **options: Any,  # noqa: ANN401
) -> Engine:
    micro_batch, threads = options.pop("micro_batch", batch_size), options.pop("threads", 1)
    if kind == "torch":  # it always takes the whole batch
        return TorchEngine(plan, mask, weights, batch_size=batch_size, **options)
    setup = EngineSetup(engine=kind, micro_batch=micro_batch, threads=threads)
    if kind == "graph":
        options["graph"] = graph_of(plan)
        return GraphEngine(plan, mask, weights, batch_size=batch_size, setup=setup, **options)
    return SparseEngine(plan, mask, weights, batch_size=batch_size, setup=setup, **options)


def start_weights(plan: Plan, mask: BoolArray, rng: np.random.Generator) -> Weights:
    """Of the size that training starts with, so that ten steps stay where rounding matters little.

    The density scales a layer's inputs, as aggregators do when they draw under a mask.
    """
    density = mask.mean()
    kept, start = [], 0
    for tensor in plan.prunable:
        values = rng.standard_normal(tensor.size) * (2 / (density * tensor.fan_in)) ** 0.5
        kept.append(values[mask[start : start + tensor.size]])
        start += tensor.size
    dense = []
    for tensor in plan.dense:
        ones = float(tensor.role in (Role.SCALE, Role.RUNNING_VAR))
        scale = (1 / tensor.fan_in) ** 0.5 if tensor.role is Role.WEIGHT else 0.05
        dense.append(ones + scale * rng.standard_normal(tensor.size))
    return Weights(
        prunable=np.concatenate(kept).astype(np.float32),
        dense=np.concatenate(dense).astype(np.float32),
    )
