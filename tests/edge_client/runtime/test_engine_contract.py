"""What every engine promises: the same masks and the same steps, on the models that devices train.

Tolerance: after ten steps with momentum the weights' change differs from torch's in float64 by at
most 2e-3 of its norm; that is a batch-norm network's drift, the others stay below 2e-5. The seeds
are ones at which no ReLU's input lies within rounding of zero, where float32 and float64 part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from engine_plans import random_batch, random_mask, residual_plan
from engines import ENGINES, graph_of, make_engine, start_weights
from torch_oracle import TorchOracle

from fedsparse.errors import EngineError
from fedsparse.plan import Plan
from fedsparse.plan.zoo import PLANS
from fedsparse.types import Weights

DRIFT = {"cifar10": 2e-3, "dscnn": 2e-3, "mobilenet": 2e-3}
PLAIN = 2e-5

engines = pytest.mark.parametrize("kind", ENGINES)


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([weights.prunable, weights.dense]).astype(np.float64)


def drift(actual: Weights, expected: Weights, start: Weights) -> float:
    moved = np.linalg.norm(flat(expected) - flat(start))
    return float(np.linalg.norm(flat(actual) - flat(expected)) / moved)


@engines
@pytest.mark.parametrize("name", ["mnist", "watch", "cifar10", "dscnn"])
def test_ten_steps_of_masked_sgd_equal_torch_in_float64(name: str, kind: str) -> None:
    plan, rng = PLANS[name](), np.random.default_rng(1)
    mask = random_mask(plan, "0.2", rng)
    weights = start_weights(plan, mask, rng)
    options = {"momentum": 0.9, "weight_decay": 1e-3}
    engine = make_engine(kind, plan, mask, weights, batch_size=9, **options)
    oracle = TorchOracle(plan, mask, weights, **options)
    for batch in (9, 8, 9, 5, 9, 3, 9, 9, 7, 9):
        samples, labels = random_batch(plan, batch, rng)
        loss = engine.train_step(samples, labels, learning_rate=0.005)
        exact = oracle.train_step(samples, labels, learning_rate=0.005)
        assert loss == pytest.approx(exact, rel=1e-3)
    assert drift(engine.weights(), oracle.weights(), weights) < DRIFT.get(name, PLAIN)
    ours, exact_logits = engine.logits(samples), oracle.logits(samples)
    assert np.linalg.norm(ours - exact_logits) < 1e-3 * np.linalg.norm(exact_logits)


@engines
@pytest.mark.parametrize("kept", ["one", "all"])
def test_one_kept_weight_and_all_of_them_train_alike(kind: str, kept: str) -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(3)
    mask = random_mask(plan, kept, rng)
    weights = start_weights(plan, mask, rng)
    engine = make_engine(kind, plan, mask, weights, batch_size=6, momentum=0.5)
    oracle = TorchOracle(plan, mask, weights, momentum=0.5)
    for _ in range(3):
        samples, labels = random_batch(plan, 6, rng)
        engine.train_step(samples, labels, learning_rate=0.02)
        oracle.train_step(samples, labels, learning_rate=0.02)
    assert drift(engine.weights(), oracle.weights(), weights) < PLAIN


@engines
def test_micro_batches_and_threads_give_the_step_of_the_whole_batch(kind: str) -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(3)
    mask = random_mask(plan, "0.3", rng)
    weights = start_weights(plan, mask, rng)
    whole = make_engine(kind, plan, mask, weights, batch_size=8, momentum=0.9)
    parts = make_engine(
        kind, plan, mask, weights, batch_size=8, momentum=0.9, micro_batch=3, threads=2
    )
    for batch in (8, 7, 1):
        samples, labels = random_batch(plan, batch, rng)
        losses = [e.train_step(samples, labels, learning_rate=0.1) for e in (whole, parts)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert drift(parts.weights(), whole.weights(), weights) < PLAIN


@engines
def test_another_mask_in_mid_training_keeps_the_momentum_of_what_both_keep(kind: str) -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(4)
    mask = random_mask(plan, "0.3", rng)
    weights = start_weights(plan, mask, rng)
    options = {"momentum": 0.9, "weight_decay": 1e-3}
    engine = make_engine(kind, plan, mask, weights, batch_size=8, **options)
    oracle = TorchOracle(plan, mask, weights, **options)
    for _ in range(2):
        for _ in range(2):
            samples, labels = random_batch(plan, 8, rng)
            engine.train_step(samples, labels, learning_rate=0.02)
            oracle.train_step(samples, labels, learning_rate=0.02)
        assert drift(engine.weights(), oracle.weights(), weights) < PLAIN
        full = np.zeros(plan.num_prunable, np.float32)
        full[mask] = engine.weights().prunable
        mask = np.where(rng.random(mask.size) < 0.8, mask, random_mask(plan, "0.4", rng))
        weights = Weights(prunable=full[mask], dense=weights.dense)
        engine.replace_mask(mask, full[mask])
        oracle.replace_mask(mask, full[mask])


@engines
def test_the_same_steps_give_the_same_bits(kind: str) -> None:
    plan, results = residual_plan(), []
    for _ in range(2):
        rng = np.random.default_rng(5)
        mask = random_mask(plan, "0.3", rng)
        weights = start_weights(plan, mask, rng)
        engine = make_engine(kind, plan, mask, weights, batch_size=7, momentum=0.9)
        for batch in (7, 3, 7):
            engine.train_step(*random_batch(plan, batch, rng), learning_rate=0.1)
        results.append(flat(engine.weights()))
    np.testing.assert_array_equal(results[0], results[1])


@engines
def test_an_engine_that_begins_anew_is_as_good_as_a_new_one(kind: str) -> None:
    plan, rng = residual_plan(), np.random.default_rng(15)
    mask = random_mask(plan, "0.3", rng)
    weights = start_weights(plan, mask, rng)
    used, fresh = (
        make_engine(kind, plan, mask, weights, batch_size=6, momentum=0.9) for _ in range(2)
    )
    batches = [random_batch(plan, 6, rng) for _ in range(4)]
    for samples, labels in batches[:2]:
        used.train_step(samples, labels, learning_rate=0.1)
    used.restart(weights)
    for samples, labels in batches[2:]:
        for engine in (used, fresh):
            engine.train_step(samples, labels, learning_rate=0.1)
    np.testing.assert_array_equal(flat(used.weights()), flat(fresh.weights()))
    with pytest.raises(EngineError, match="values"):
        used.restart(Weights(prunable=weights.prunable[1:], dense=weights.dense))


@engines
def test_predicting_changes_nothing_and_nothing_given_is_changed(kind: str) -> None:
    plan, rng = residual_plan(), np.random.default_rng(6)
    mask = random_mask(plan, "0.3", rng)
    weights = start_weights(plan, mask, rng)
    before = flat(weights)
    engine = make_engine(kind, plan, mask, weights, batch_size=4)
    samples, labels = random_batch(plan, 9, rng)
    together = engine.logits(samples)
    alone = np.concatenate([engine.logits(samples[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(together, alone, 1e-4, 1e-5)
    np.testing.assert_array_equal(flat(engine.weights()), before)
    taken = engine.weights()
    taken.prunable[:] = 0
    engine.train_step(samples[:4], labels[:4], learning_rate=1.0)
    np.testing.assert_array_equal(flat(weights), before)
    assert not (engine.weights().prunable == 0).all()


@engines
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training_and_moves_nothing(kind: str, bad: float) -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(7)
    mask = random_mask(plan, "0.3", rng)
    weights = start_weights(plan, mask, rng)
    engine = make_engine(kind, plan, mask, weights, batch_size=4, momentum=0.9)
    samples, labels = random_batch(plan, 4, rng)
    samples[2] = bad
    with pytest.raises(EngineError, match="training diverged"):
        engine.train_step(samples, labels, learning_rate=0.1)
    np.testing.assert_array_equal(flat(engine.weights()), flat(weights))


def too_many_samples(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return random_batch(plan, 5, rng)


def no_samples(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    samples, labels = random_batch(plan, 1, rng)
    return samples[:0], labels[:0]


def samples_of_another_shape(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    samples, labels = random_batch(plan, 4, rng)
    return samples[:, :, 1:], labels


def a_label_out_of_range(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    samples, labels = random_batch(plan, 4, rng)
    return samples, labels + plan.classes


@engines
@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (too_many_samples, "a batch of 5: this engine takes 1 to 4"),
        (no_samples, "a batch of 0: this engine takes 1 to 4"),
        (samples_of_another_shape, "takes samples of"),
        (a_label_out_of_range, "labels must be 0 to 9"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    kind: str, batch: Callable[..., tuple[np.ndarray, np.ndarray]], reason: str
) -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(8)
    mask = random_mask(plan, "0.3", rng)
    engine = make_engine(kind, plan, mask, start_weights(plan, mask, rng), batch_size=4)
    with pytest.raises(EngineError, match=reason):
        engine.train_step(*batch(plan, rng), learning_rate=0.1)


@engines
def test_masks_and_weights_that_do_not_fit_are_refused(kind: str) -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(9)
    mask = random_mask(plan, "0.3", rng)
    weights = start_weights(plan, mask, rng)
    with pytest.raises(EngineError, match="the mask must be"):
        make_engine(kind, plan, mask[1:], weights, batch_size=4)
    with pytest.raises(EngineError, match="the mask keeps"):
        make_engine(kind, plan, ~mask, weights, batch_size=4)
    engine = make_engine(kind, plan, mask, weights, batch_size=4)
    with pytest.raises(EngineError, match="the mask keeps"):
        engine.replace_mask(~mask, weights.prunable)
    np.testing.assert_array_equal(flat(engine.weights()), flat(weights))


def test_both_engines_train_the_same_tensors() -> None:
    plan = residual_plan()
    assert set(graph_of(plan).tensors) == {tensor.name for tensor in plan.tensors}
