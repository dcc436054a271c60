"""The predicted cost of the graph engine against the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from engines import graph_of

from edge_client.bench.case import kept_at
from edge_client.runtime.graph_cost import graph_cost
from edge_client.runtime.setup import EngineSetup
from fedsparse.errors import EngineError
from fedsparse.plan.zoo import PLANS

ROOT = Path(__file__).parents[3]
MEASURE = """
import ctypes, gc, pathlib, sys
import numpy as np, onnxruntime
from edge_client.runtime.step_times import plain_weights
from edge_client.runtime.graph import GraphEngine
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.targets import random_targets
from fedsparse.plan.zoo import PLANS
from fedsparse.sparsity.masks import random_mask

def status(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

name, graph, batch, micro_batch, *kept = sys.argv[1:]
plan, batch, micro_batch = PLANS[name](), int(batch), int(micro_batch)
rng = np.random.default_rng(0)
mask = random_mask(plan, [int(count) for count in kept], rng)
weights = plain_weights(plan, mask)
samples = rng.standard_normal((batch, *plan.input_shape), dtype=np.float32)
targets = random_targets(plan, batch, rng)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = status("VmRSS")
engine = GraphEngine(
    plan, mask, weights, graph=pathlib.Path(graph), batch_size=batch, momentum=0.9,
    setup=EngineSetup(engine="graph", micro_batch=micro_batch),
)
for _ in range(3):
    engine.train_step(samples, targets, learning_rate=0.0)
print(status("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("name", "density", "batch", "micro_batch"),
    [
        ("mnist", 0.1, 32, 32),
        ("watch", 1.0, 8, 8),
        ("cifar10", 0.1, 32, 32),
        ("cifar10", 0.5, 16, 4),
    ],
)
def test_the_predicted_peak_is_the_measured_one(
    name: str, density: float, batch: int, micro_batch: int, tmp_path: Path
) -> None:
    plan = PLANS[name]()
    graph, kept = graph_of(plan), kept_at(plan, density)
    path = tmp_path / "training.graph"
    path.write_bytes(graph.to_bytes())
    setup = EngineSetup(engine="graph", micro_batch=micro_batch)
    predicted = graph_cost(plan, kept, batch, graph=graph, setup=setup).peak_bytes
    arguments = [name, path, batch, micro_batch, *kept]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, arguments)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    measured = int(done.stdout)
    assert 0.97 * measured <= predicted <= max(1.15 * measured, measured + 2**20)


def test_density_saves_gradients_and_momentum_and_a_micro_batch_activations() -> None:
    plan = PLANS["watch"]()
    graph = graph_of(plan)
    sparse, dense = (
        graph_cost(plan, kept_at(plan, density), 16, graph=graph) for density in (0.1, 1.0)
    )
    saved = sum(kept_at(plan, 1.0)) - sum(kept_at(plan, 0.1))
    assert dense.peak_bytes - sparse.peak_bytes == 3 * 4 * saved  # with the index
    assert dense.multiply_adds == sparse.multiply_adds == 16 * graph.multiply_adds
    setup = EngineSetup(engine="graph", micro_batch=2)
    assert graph_cost(plan, kept_at(plan, 0.1), 16, graph=graph, setup=setup).peak_bytes < (
        sparse.peak_bytes
    )


def test_a_convolutions_step_counts_forward_backward_and_weight_gradient() -> None:
    """Three products of a layer's size, two for the first one, which hands no gradient on."""
    plan = PLANS["mnist"]()
    conv1, conv2 = 24 * 24 * 10 * 25, 18 * 18 * 20 * 250
    fc1, fc2 = 5120 * 50, 500
    expected = 2 * conv1 + 3 * (conv2 + fc1 + fc2)
    assert graph_of(plan).multiply_adds == pytest.approx(expected, rel=0.02)


def test_counts_that_do_not_fit_the_plan_are_refused() -> None:
    plan = PLANS["digits"]()
    with pytest.raises(EngineError, match="do not fit"):
        graph_cost(plan, [1], 8, graph=graph_of(plan))


def test_pricing_an_engine_needs_no_numpy() -> None:
    code = "import sys, edge_client.runtime.graph_cost; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
