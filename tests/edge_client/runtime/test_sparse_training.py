"""Whole models over many steps: against torch, and the engine's own promises."""

from __future__ import annotations

import numpy as np
import pytest
from engine_plans import (
    assert_same_weights,
    between,
    conv,
    mobile_plan,
    node,
    random_batch,
    random_mask,
    random_weights,
    residual_plan,
)
from torch_oracle import TorchOracle

from edge_client.runtime.engine import Engine
from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import INPUT, Flatten, Linear, MaxPool, Plan, Relu
from fedsparse.types import Weights


def wide_plan() -> Plan:
    """Runs long enough for every width of tile, and rows of more than eight entries."""
    same = ((2, 2),)
    return Plan(
        name="wide",
        input_shape=(4, 40),
        nodes=(
            node("c1", conv(12, (5,), pads=same), INPUT),
            node("r1", Relu(), "c1"),
            node("p1", MaxPool(kernel=(2,), stride=(2,), pads=((0, 0),)), "r1"),
            node("c2", conv(16, (5,), (2,), same), "p1"),
            node("r2", Relu(), "c2"),
            node("flat", Flatten(), "r2"),
            node("l1", Linear(out_features=24), "flat"),
            node("r3", Relu(), "l1"),
            node("l2", Linear(out_features=5), "r3"),
        ),
    )


PLANS = (residual_plan(), wide_plan(), mobile_plan())


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 1e-2), (0.0, 1e-2), (0.5, 0.0)])
def test_ten_steps_of_sgd_equal_torchs_on_masked_weights(
    plan: Plan, momentum: float, weight_decay: float
) -> None:
    rng = np.random.default_rng(3)
    mask = random_mask(plan, "0.3", rng)
    weights = random_weights(plan, mask, rng)
    engine: Engine = SparseEngine(
        plan, mask, weights, batch_size=33, momentum=momentum, weight_decay=weight_decay
    )
    oracle = TorchOracle(plan, mask, weights, momentum=momentum, weight_decay=weight_decay)
    for batch in (33, 32, 17, 8, 5, 3, 2, 33, 31, 16):
        samples, labels = random_batch(plan, batch, rng)
        loss = engine.train_step(samples, labels, learning_rate=0.05)
        assert loss == pytest.approx(
            oracle.train_step(samples, labels, learning_rate=0.05), rel=1e-5
        )
    assert_same_weights(engine.weights(), oracle.weights(), 1e-5)
    np.testing.assert_allclose(engine.logits(samples), oracle.logits(samples), 1e-4, 1e-5)


@pytest.mark.parametrize("plan", [wide_plan(), mobile_plan()], ids=lambda plan: plan.name)
@pytest.mark.parametrize("micro_batch", [1, 4, 7, 16, 32])
def test_micro_batches_teach_what_the_whole_batch_does(plan: Plan, micro_batch: int) -> None:
    engines = []
    for size in (33, micro_batch):
        rng = np.random.default_rng(10)
        mask = random_mask(plan, "0.3", rng)
        engine = SparseEngine(
            plan, mask, random_weights(plan, mask, rng), batch_size=33,
            setup=EngineSetup(micro_batch=size), momentum=0.9, weight_decay=1e-3,
        )  # fmt: skip
        losses = [
            engine.train_step(*random_batch(plan, batch, rng), learning_rate=0.05)
            for batch in (33, 20, 5, 1)
        ]
        engines.append((engine.weights(), losses))
    (whole, whole_losses), (parts, part_losses) = engines
    assert part_losses == pytest.approx(whole_losses, rel=1e-5)
    assert_same_weights(parts, whole, 2e-6)


def test_with_batch_norm_a_micro_batch_has_statistics_of_its_own() -> None:
    """Each as torch has it: two forward passes in training mode, one step on the summed loss."""
    plan, rng = residual_plan(), np.random.default_rng(11)
    mask = random_mask(plan, "0.4", rng)
    weights = random_weights(plan, mask, rng)
    setup = EngineSetup(micro_batch=4)
    engine = SparseEngine(plan, mask, weights, batch_size=8, setup=setup)
    samples, labels = random_batch(plan, 8, rng)
    loss = engine.train_step(samples, labels, learning_rate=1.0)
    oracle = TorchOracle(plan, mask, weights)
    expected = oracle.train_step(samples, labels, learning_rate=1.0, micro_batch=4)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_same_weights(engine.weights(), oracle.weights(), 2e-5)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_threads_change_no_bit(plan: Plan) -> None:
    results = []
    for threads in (1, 2, 5):
        rng = np.random.default_rng(12)
        mask = random_mask(plan, "0.3", rng)
        engine = SparseEngine(
            plan, mask, random_weights(plan, mask, rng), batch_size=16,
            setup=EngineSetup(micro_batch=9, threads=threads, shared_work=1), momentum=0.9,
        )  # fmt: skip
        for batch in (16, 3, 11, 16):
            engine.train_step(*random_batch(plan, batch, rng), learning_rate=0.05)
        results.append(engine.weights())
    for other in results[1:]:
        np.testing.assert_array_equal(other.prunable, results[0].prunable)
        np.testing.assert_array_equal(other.dense, results[0].dense)


def test_a_new_mask_between_steps_keeps_the_momentum_of_what_both_keep() -> None:
    plan, rng = residual_plan(), np.random.default_rng(4)
    mask = random_mask(plan, "0.3", rng)
    weights = random_weights(plan, mask, rng)
    engine = SparseEngine(plan, mask, weights, batch_size=8, momentum=0.9, weight_decay=1e-3)
    oracle = TorchOracle(plan, mask, weights, momentum=0.9, weight_decay=1e-3)
    for _ in range(3):
        for _ in range(3):
            samples, labels = random_batch(plan, 8, rng)
            engine.train_step(samples, labels, learning_rate=0.05)
            oracle.train_step(samples, labels, learning_rate=0.05)
        assert_same_weights(engine.weights(), oracle.weights(), 1e-5)
        full = np.zeros(plan.num_prunable, np.float32)
        full[mask] = engine.weights().prunable
        mask = np.where(rng.random(mask.size) < 0.8, mask, random_mask(plan, "0.4", rng))
        engine.replace_mask(mask, full[mask])
        oracle.replace_mask(mask, full[mask])
        samples, labels = random_batch(plan, 8, rng)
        np.testing.assert_allclose(engine.logits(samples), oracle.logits(samples), 1e-4, 1e-5)


def test_momentum_carried_over_is_seen_in_the_next_step() -> None:
    plan, rng = between(Linear(out_features=6), (5,)), np.random.default_rng(5)
    mask = np.ones(plan.num_prunable, np.bool_)
    weights = random_weights(plan, mask, rng)
    samples, labels = random_batch(plan, 4, rng)
    carried = SparseEngine(plan, mask, weights, batch_size=4, momentum=0.9)
    carried.train_step(samples, labels, learning_rate=0.1)
    fresh = SparseEngine(plan, mask, carried.weights(), batch_size=4, momentum=0.9)
    carried.replace_mask(mask, carried.weights().prunable)
    for engine in (carried, fresh):
        engine.train_step(samples, labels, learning_rate=0.1)
    assert not np.allclose(carried.weights().prunable, fresh.weights().prunable, atol=1e-4)


def test_logits_of_many_samples_are_those_of_each_alone() -> None:
    plan, rng = residual_plan(), np.random.default_rng(6)
    mask = random_mask(plan, "0.3", rng)
    engine = SparseEngine(plan, mask, random_weights(plan, mask, rng), batch_size=4)
    samples, _ = random_batch(plan, 11, rng)
    together = engine.logits(samples)
    alone = np.concatenate([engine.logits(samples[i : i + 1]) for i in range(11)])
    np.testing.assert_allclose(together, alone, 1e-5, 1e-5)
    assert engine.logits(samples[:0]).shape == (0, plan.classes)


def test_predicting_changes_nothing() -> None:
    plan, rng = residual_plan(), np.random.default_rng(7)
    mask = random_mask(plan, "0.3", rng)
    weights = random_weights(plan, mask, rng)
    engine = SparseEngine(plan, mask, weights, batch_size=4)
    engine.logits(random_batch(plan, 9, rng)[0])
    np.testing.assert_array_equal(engine.weights().prunable, weights.prunable)
    np.testing.assert_array_equal(engine.weights().dense, weights.dense)


def test_the_same_steps_give_the_same_bits() -> None:
    plan, results = residual_plan(), []
    for _ in range(2):
        rng = np.random.default_rng(8)
        mask = random_mask(plan, "0.3", rng)
        engine = SparseEngine(
            plan, mask, random_weights(plan, mask, rng), batch_size=7, momentum=0.9
        )
        for batch in (7, 3, 7):
            engine.train_step(*random_batch(plan, batch, rng), learning_rate=0.1)
        results.append(engine.weights())
    np.testing.assert_array_equal(results[0].prunable, results[1].prunable)
    np.testing.assert_array_equal(results[0].dense, results[1].dense)


def test_the_engine_copies_what_it_is_given_and_what_it_gives() -> None:
    plan, rng = between(Relu(), (6,)), np.random.default_rng(9)
    mask = random_mask(plan, "0.5", rng)
    given = random_weights(plan, mask, rng)
    before = Weights(prunable=given.prunable.copy(), dense=given.dense.copy())
    engine = SparseEngine(plan, mask, given, batch_size=3)
    taken = engine.weights()
    taken.prunable[:] = 0
    engine.train_step(*random_batch(plan, 3, rng), learning_rate=1.0)
    np.testing.assert_array_equal(given.prunable, before.prunable)
    np.testing.assert_array_equal(given.dense, before.dense)
    assert not (engine.weights().prunable == 0).all()
