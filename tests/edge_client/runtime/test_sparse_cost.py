"""The predicted cost against the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from engine_plans import conv, node

from edge_client.runtime.cost import sparse_cost
from fedsparse.errors import EngineError
from fedsparse.plan import INPUT, BatchNorm, Flatten, Linear, MaxPool, Plan, Relu

ROOT = Path(__file__).parents[3]
MEASURE = """
import ctypes, gc, pathlib, sys
import numpy as np
from edge_client.runtime.step_times import plain_weights
from fedsparse.sparsity.masks import random_mask
from edge_client.runtime.sparse import SparseEngine
from edge_client.runtime.native.library import load_library
from fedsparse.plan import Plan

def status(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

batch, *kept = map(int, sys.argv[1:])
plan = Plan.from_json(sys.stdin.read())
rng = np.random.default_rng(0)
load_library()
mask = random_mask(plan, kept, rng)
weights = plain_weights(plan, mask)
samples = rng.standard_normal((batch, *plan.input_shape), dtype=np.float32)
labels = rng.integers(0, plan.classes, batch)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)  # the engine would otherwise reuse what the set-up freed
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = status("VmRSS")
engine = SparseEngine(plan, mask, weights, batch_size=batch, momentum=0.9)
for _ in range(3):
    engine.train_step(samples, labels, learning_rate=0.0)
print(status("VmHWM") - before)
"""


def watch_plan() -> Plan:
    """About 300,000 parameters, as the models that devices train."""
    half = MaxPool(kernel=(2,), stride=(2,), pads=((0, 0),))
    return Plan(
        name="watch",
        input_shape=(6, 100),
        nodes=(
            node("c1", conv(64, (9,), pads=((4, 4),)), INPUT),
            node("b1", BatchNorm(), "c1"),
            node("r1", Relu(), "b1"),
            node("p1", half, "r1"),
            node("c2", conv(96, (9,), pads=((4, 4),)), "p1"),
            node("r2", Relu(), "c2"),
            node("p2", half, "r2"),
            node("flat", Flatten(), "p2"),
            node("l1", Linear(out_features=100), "flat"),
            node("r3", Relu(), "l1"),
            node("l2", Linear(out_features=7), "r3"),
        ),
    )


def kept_at(plan: Plan, density: float) -> list[int]:
    return [max(1, round(density * tensor.size)) for tensor in plan.prunable]


@pytest.mark.parametrize(("density", "batch"), [(0.05, 8), (0.2, 32), (1.0, 16)])
def test_the_predicted_peak_is_the_measured_one(density: float, batch: int) -> None:
    plan = watch_plan()
    kept = kept_at(plan, density)
    predicted = sparse_cost(plan, kept, batch).peak_bytes
    arguments = [sys.executable, "-c", MEASURE, *map(str, (batch, *kept))]
    done = subprocess.run(
        arguments, input=plan.to_json(), capture_output=True, text=True, check=True, cwd=ROOT
    )
    measured = int(done.stdout)
    assert 0.97 * measured <= predicted <= 1.1 * measured + 500_000


def test_cost_grows_with_density_batch_and_momentum() -> None:
    plan = watch_plan()
    low = sparse_cost(plan, kept_at(plan, 0.05), 16)
    for larger in (
        sparse_cost(plan, kept_at(plan, 0.1), 16),
        sparse_cost(plan, kept_at(plan, 0.05), 32),
    ):
        assert larger.peak_bytes > low.peak_bytes
        assert larger.multiply_adds > low.multiply_adds
    without = sparse_cost(plan, kept_at(plan, 0.05), 16, momentum=False)
    saved = low.peak_bytes - without.peak_bytes
    assert saved == 4 * (sum(kept_at(plan, 0.05)) + plan.num_dense)


def test_a_sparse_product_counts_forward_backward_and_weight_gradient() -> None:
    plan = Plan(
        name="two",
        input_shape=(50,),
        nodes=(
            node("a", Linear(out_features=40, bias=False), INPUT),
            node("b", Linear(out_features=2, bias=False), "a"),
        ),
    )
    a, b = (sparse_cost(plan, kept, 8).multiply_adds for kept in ([100, 10], [101, 10]))
    assert 2 * 8 <= b - a <= 2 * 8 + 100  # the first layer hands no gradient on


@pytest.mark.parametrize("kept", [[1, 2], [10**9, 1, 1, 1]])
def test_counts_that_do_not_fit_the_plan_are_refused(kept: list[int]) -> None:
    with pytest.raises(EngineError, match="kept"):
        sparse_cost(watch_plan(), kept, 8)


def test_pricing_an_engine_needs_no_numpy() -> None:
    code = "import sys, edge_client.runtime.cost; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
