"""What the graph engine alone can meet: damaged files, a missing package, dropout's seed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_plans import random_batch, random_mask
from engines import graph_of, make_engine, start_weights

from edge_client.runtime.graph import GraphEngine
from fedsparse.errors import EngineError
from fedsparse.plan import BatchNorm, Dropout, Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.plan.zoo import PLANS


def small_plan(*, dropout: float = 0.0, vector_norm: bool = False, width: int = 12) -> Plan:
    model = PlanBuilder("small", (6,))
    model.linear("a", width)
    if vector_norm:
        model.add(BatchNorm(), name="norm")
    model.relu()
    if dropout:
        model.add(Dropout(p=dropout))
    model.linear("b", 3, prunable=False)
    return model.build()


def parts_of(plan: Plan) -> tuple[np.ndarray, object, np.random.Generator]:
    rng = np.random.default_rng(0)
    mask = random_mask(plan, "0.5", rng)
    return mask, start_weights(plan, mask, rng), rng


def test_without_onnxruntime_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan()
    mask, weights, _ = parts_of(plan)
    graph = graph_of(plan)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install 'fedsparse\[onnx\]'"):
        GraphEngine(plan, mask, weights, graph=graph, batch_size=4)


def test_the_graph_is_read_from_its_file(tmp_path: Path) -> None:
    plan = small_plan()
    mask, weights, rng = parts_of(plan)
    path = tmp_path / "training.graph"
    path.write_bytes(graph_of(plan).to_bytes())
    engine = GraphEngine(plan, mask, weights, graph=path, batch_size=4)
    samples, labels = random_batch(plan, 4, rng)
    other = make_engine("graph", plan, mask, weights, batch_size=4)
    assert engine.train_step(samples, labels, learning_rate=0.1) == other.train_step(
        samples, labels, learning_rate=0.1
    )
    path.write_bytes(graph_of(plan).to_bytes()[:-3])
    with pytest.raises(EngineError, match="damaged training graph"):
        GraphEngine(plan, mask, weights, graph=path, batch_size=4)
    with pytest.raises(EngineError, match="cannot be read"):
        GraphEngine(plan, mask, weights, graph=tmp_path / "none", batch_size=4)


def test_the_graph_of_another_plan_is_refused() -> None:
    plan = small_plan()
    mask, weights, _ = parts_of(plan)
    with pytest.raises(EngineError, match="not that of plan 'small'"):
        GraphEngine(plan, mask, weights, graph=graph_of(PLANS["digits"]()), batch_size=4)
    wider = graph_of(small_plan(width=13))
    with pytest.raises(EngineError, match=r"does not fit plan 'small'"):
        GraphEngine(plan, mask, weights, graph=wider, batch_size=4)


def test_a_model_that_onnxruntime_refuses_is_an_engine_error() -> None:
    plan = small_plan()
    mask, weights, _ = parts_of(plan)
    graph = graph_of(plan)
    for model in (b"", b"nonsense", graph.training[:-40], graph.inference):
        wrong = dataclasses.replace(graph, training=model)
        with pytest.raises(EngineError, match="training graph"):
            GraphEngine(plan, mask, weights, graph=wrong, batch_size=4)


def test_a_model_that_fails_while_it_runs_is_an_engine_error() -> None:
    plan = small_plan()
    mask, weights, rng = parts_of(plan)
    graph = graph_of(plan)
    model = onnx.load_model_from_string(graph.training)
    for node in model.graph.node:
        node.input[:] = ["picked" if name == "samples" else name for name in node.input]
    picked = onnx.helper.make_node("Gather", ["samples", "beyond"], ["picked"], axis=0)
    model.graph.node.insert(0, picked)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([999]), "beyond"))
    wrong = dataclasses.replace(graph, training=model.SerializeToString())
    engine = GraphEngine(plan, mask, weights, graph=wrong, batch_size=4)
    with pytest.raises(EngineError, match="the training graph failed"):
        engine.train_step(*random_batch(plan, 4, rng), learning_rate=0.1)


def test_a_lone_sample_for_a_batch_norm_over_vectors_is_refused() -> None:
    plan = small_plan(vector_norm=True)
    mask, weights, rng = parts_of(plan)
    engine = make_engine("graph", plan, mask, weights, batch_size=4)
    with pytest.raises(EngineError, match="batch of one"):
        engine.train_step(*random_batch(plan, 1, rng), learning_rate=0.1)
    engine.train_step(*random_batch(plan, 2, rng), learning_rate=0.1)


def test_dropout_follows_from_seed_and_step_and_not_from_micro_batches() -> None:
    plan = small_plan(dropout=0.5)
    mask, weights, rng = parts_of(plan)
    samples, labels = random_batch(plan, 8, rng)
    losses = []
    for seed, micro_batch in ((1, 8), (1, 3), (2, 8)):
        engine = make_engine(
            "graph", plan, mask, weights, batch_size=8, seed=seed, micro_batch=micro_batch
        )
        losses.append([engine.train_step(samples, labels, learning_rate=0.0) for _ in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][0] != losses[0][1]
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)
