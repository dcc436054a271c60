"""Dropout by its own mathematics: what is dropped, how often, and that both ways agree."""

from __future__ import annotations

import numpy as np
import pytest
from engine_plans import node, random_batch, random_mask, random_weights

from edge_client.runtime.setup import EngineSetup
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import INPUT, Dropout, Linear, Loss, Plan
from fedsparse.types import BoolArray, Weights

SIZE = 4000


def chain(rate: float, size: int = SIZE) -> Plan:
    """A layer of one weight for each unit, dropout, and the sum of what is left."""
    return Plan(
        name="chain",
        input_shape=(1,),
        nodes=(
            node("first", Linear(out_features=size, bias=False), INPUT),
            node("drop", Dropout(p=rate), "first"),
            node("last", Linear(out_features=1, bias=False), "drop"),
        ),
        loss=Loss.MSE,
    )


def engine(plan: Plan, *, batch_size: int = 1, seed: int = 0, threads: int = 1) -> SparseEngine:
    """All weights are one."""
    mask = np.ones(plan.num_prunable, np.bool_)
    weights = Weights(prunable=np.ones(mask.size, np.float32), dense=np.zeros(0, np.float32))
    setup = EngineSetup(micro_batch=batch_size, threads=threads, shared_work=1)
    return SparseEngine(plan, mask, weights, batch_size=batch_size, setup=setup, seed=seed)


def loss_of_a_step(trained: SparseEngine, batch: int = 1) -> float:
    """The mean square of the sum of what is left; nothing moves."""
    samples, targets = np.ones((batch, 1), np.float32), np.zeros((batch, 1), np.float32)
    return trained.train_step(samples, targets, learning_rate=0.0)


def draws(trained: SparseEngine, steps: int = 1) -> BoolArray:
    """Which units are kept: seen by gradients of a weight that moves visibly; `(steps, units)`."""
    plan, rows = trained.plan, []
    for _ in range(steps):
        ones = np.ones(plan.num_prunable, np.float32)
        trained.replace_mask(ones.astype(np.bool_), ones)
        samples, targets = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
        trained.train_step(samples, targets, learning_rate=1.0)
        rows.append(np.split(trained.weights().prunable, 2)[1] != 1)
    return np.array(rows)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_the_share_that_is_kept_is_the_rates_and_the_rest_is_scaled_up(rate: float) -> None:
    trained = engine(chain(rate))
    kept = draws(trained, 5)
    assert kept.mean() == pytest.approx(1 - rate, abs=4 * np.sqrt(rate * (1 - rate) / kept.size))
    loss = loss_of_a_step(engine(chain(rate)))
    assert np.sqrt(loss) == pytest.approx(kept[0].sum() / (1 - rate), rel=1e-4)


def test_neighbours_and_steps_are_independent() -> None:
    kept = draws(engine(chain(0.5)), 6) - 0.5
    for shift in range(1, 40):
        assert abs((kept[:, shift:] * kept[:, :-shift]).mean()) < 0.25 * 5 / np.sqrt(6 * SIZE)
    for first in range(6):
        for second in range(first):
            assert abs((kept[first] * kept[second]).mean()) < 0.25 * 5 / np.sqrt(SIZE)


def test_the_gradient_passes_exactly_where_the_value_did() -> None:
    """With y the output: 2 y scale[i] last[i] for first[i], 2 y scale[i] first[i] for last[i]."""
    rate, plan = 0.3, chain(0.3, size=300)
    mask = np.ones(plan.num_prunable, np.bool_)
    values = np.random.default_rng(0).uniform(0.5, 1.5, mask.size).astype(np.float32)
    weights = Weights(prunable=values, dense=np.zeros(0, np.float32))
    trained = SparseEngine(plan, mask, weights, batch_size=1)
    loss = trained.train_step(
        np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32), learning_rate=1.0
    )
    (first, last), moved = np.split(values, 2), np.split(values - trained.weights().prunable, 2)
    scale = (moved[1] != 0) / (1 - rate)
    assert 150 < np.count_nonzero(scale) < 270
    assert np.sqrt(loss) == pytest.approx((scale * first * last).sum(), rel=1e-5)
    np.testing.assert_allclose(moved[0], 2 * np.sqrt(loss) * scale * last, rtol=1e-4)
    np.testing.assert_allclose(moved[1], 2 * np.sqrt(loss) * scale * first, rtol=1e-4)


def test_each_sample_has_draws_of_its_own() -> None:
    single, double = engine(chain(0.5)), engine(chain(0.5), batch_size=2)
    mean_square, first = loss_of_a_step(double, 2), loss_of_a_step(single)
    assert mean_square != pytest.approx(first)
    assert 2 * mean_square - first > 0


def test_a_model_that_predicts_drops_nothing() -> None:
    trained = engine(chain(0.9), batch_size=3)
    samples = np.ones((7, 1), np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(trained.logits(samples), np.full((7, 1), SIZE))
        loss_of_a_step(trained)


def test_a_value_that_another_node_reads_too_is_not_changed() -> None:
    """The second reader sees it whole, in training and in prediction."""
    plan = Plan(
        name="shared",
        input_shape=(50,),
        nodes=(
            node("drop", Dropout(p=0.9999999), INPUT),
            node("a", Linear(out_features=1, bias=False), "drop"),
            node("last", Linear(out_features=1, bias=False), INPUT),
        ),
        loss=Loss.MSE,
    )
    trained = engine(plan)
    samples, targets = np.ones((1, 50), np.float32), np.zeros((1, 1), np.float32)
    assert trained.logits(samples)[0, 0] == 50
    assert trained.train_step(samples, targets, learning_rate=0.0) == 2500


def test_the_draws_follow_from_seed_step_and_node() -> None:
    def kept(seed: int) -> BoolArray:
        return draws(engine(chain(0.5), seed=seed), 2)

    one = kept(1)
    np.testing.assert_array_equal(one, kept(1))
    for other in (one[1:], kept(2)[:1], kept(1 + 2**31)[:1]):
        assert np.mean(one[:1] == other) == pytest.approx(0.5, abs=0.05)


def test_two_nodes_draw_apart() -> None:
    plan = Plan(
        name="twice",
        input_shape=(SIZE,),
        nodes=(
            node("one", Dropout(p=0.5), INPUT),
            node("two", Dropout(p=0.5), "one"),
            node("last", Linear(out_features=1, bias=False), "two"),
        ),
        loss=Loss.MSE,
    )
    samples, targets = np.ones((1, SIZE), np.float32), np.zeros((1, 1), np.float32)
    total = np.sqrt(engine(plan).train_step(samples, targets, learning_rate=0.0))
    assert total / 4 == pytest.approx(SIZE / 4, rel=0.1)  # the same draws would keep a half


@pytest.mark.parametrize("batch", [5, 16, 37])
def test_neither_threads_nor_micro_batches_change_what_is_dropped(
    batch: int,
) -> None:
    plan, results = chain(0.4, size=70), []
    for threads, micro_batch in ((1, batch), (3, batch), (1, 4), (2, 3)):
        rng = np.random.default_rng(3)
        mask = random_mask(plan, "0.5", rng)
        trained = SparseEngine(
            plan, mask, random_weights(plan, mask, rng), batch_size=batch, seed=9,
            setup=EngineSetup(micro_batch=micro_batch, threads=threads, shared_work=1),
        )  # fmt: skip
        for _ in range(3):
            trained.train_step(*random_batch(plan, batch, rng), learning_rate=0.1)
        results.append(trained.weights().prunable)
    np.testing.assert_array_equal(results[1], results[0])
    for other in results[2:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-5, atol=1e-6)
