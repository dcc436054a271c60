"""A plan that is a training graph: both come together, or the device has neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent_bench import LEVELS, Bench

from edge_client.agent import choice
from edge_client.calibration import LevelTiming
from fedsparse.plan import INPUT, GraphModel, Linear, Node, Plan
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.wire.messages import Part, Ready, Task

GRAPH = TrainingGraph(
    tensors=("w", "b"), prunable=("w",), draws=(), least_batch=1, multiply_adds=1_000,
    live_bytes=((1_000, 100),), inference_bytes=((0, 100),), nodes=3, training=b"a model",
    inference=b"another",
)  # fmt: skip


def opaque_plan() -> Plan:
    operator = GraphModel(
        outputs=4,
        parameters=(("w", (4, 60), "weight", True, 60), ("b", (4,), "bias", False, 0)),
        normalises=False,
        graph=GRAPH.digest,
    )
    node = Node(name="model", operator=operator, inputs=(INPUT,))
    return Plan(name="opaque", input_shape=(6,), nodes=(node,))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.plan = opaque_plan()
    timing = LevelTiming(
        step_s={8: 1e-3, 4: 2e-3},
        multiply_adds=8_000,
        engine="graph",
        threads=1,
        shared_work=8_000_000,
        layers={},
    )
    bench.write_calibration(LEVELS, timing=timing)
    bench.write_script()
    yield bench
    bench.agent.close()


def plan_and_graph(bench: Bench, graph: bytes) -> tuple[Task, bytes]:
    task, text = bench.plan_task(bench.plan.to_json().encode())
    part = Part(name="graph", codec="onnx", size=len(graph))
    return replace(task, parts=(*task.parts, part)), text + graph


def test_plan_and_graph_come_together_and_the_trainer_is_given_both(bench: Bench) -> None:
    bench.say(bench.offer())
    assert not bench.hear(Ready)[0].has_plan
    bench.say(*plan_and_graph(bench, GRAPH.to_bytes()))
    ready, _ = bench.hear(Ready)
    assert (ready.level, ready.engine) == (0.2, "graph")
    assert ready.predicted_peak_bytes > 11 << 20  # onnxruntime's own share
    path = bench.store.graph_path(bench.plan)
    assert path is not None
    assert path.read_bytes() == GRAPH.to_bytes()
    request = json.loads((bench.folder / "last-request.json").read_text())
    assert request["kind"] == "CalibrateRequest"
    assert request["graph"] == str(path)


@pytest.mark.parametrize("graph", [b"", b"rubbish", GRAPH.to_bytes()[:-1]])
def test_a_plan_without_its_graph_is_not_kept(bench: Bench, graph: bytes) -> None:
    bench.say(bench.offer())
    bench.hear(Ready)
    bench.say(*plan_and_graph(bench, graph))
    assert bench.store.load_plan(bench.plan.digest) is None


def test_a_graph_that_is_damaged_on_disk_counts_as_missing(bench: Bench) -> None:
    bench.store.save_plan(bench.plan.digest, bench.plan.to_json().encode(), GRAPH.to_bytes())
    assert bench.store.load_plan(bench.plan.digest) == bench.plan
    path = bench.store.graph_path(bench.plan)
    assert path is not None
    path.write_bytes(b"damage")
    assert bench.store.load_plan(bench.plan.digest) is None
    assert not path.exists()


def test_without_onnxruntime_the_device_declines_with_the_way_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    bench.store.save_plan(bench.plan.digest, bench.plan.to_json().encode(), GRAPH.to_bytes())
    bench.say(bench.offer())
    ready, _ = bench.hear(Ready)
    assert ready.level is None
    assert "pip install 'fedsparse[onnx]'" in ready.reason


def test_a_plan_of_operators_with_a_graph_needs_no_onnxruntime(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    linear = Node(name="linear", operator=Linear(out_features=4), inputs=(INPUT,))
    bench.plan = Plan(name="both", input_shape=(60,), nodes=(linear,), graph=GRAPH.digest)
    bench.write_calibration(LEVELS)
    bench.store.save_plan(bench.plan.digest, bench.plan.to_json().encode(), GRAPH.to_bytes())
    assert bench.store.load_plan(bench.plan.digest) == bench.plan
    chooser = bench.agent._chooser
    assert chooser._cannot_run(bench.plan) == ""
    assert chooser._cannot_run(opaque_plan()) != ""
