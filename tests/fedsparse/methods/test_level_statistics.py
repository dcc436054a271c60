from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedsparse.methods.method import make_method
from fedsparse.methods.statistics import LevelStatistics, StatisticsMean, running_positions
from fedsparse.plan import Plan, Role
from fedsparse.plan.builder import PlanBuilder
from fedsparse.types import Float32Array


def normed_plan(*, norm: bool = True) -> Plan:
    model = PlanBuilder("normed", (4,))
    model.linear("a", 6)
    if norm:
        model.batch_norm("norm")
    model.relu()
    model.linear("b", 3, prunable=False)
    return model.build()


PLAN = normed_plan()


def some_dense(seed: int) -> Float32Array:
    return np.random.default_rng(seed).standard_normal(PLAN.num_dense, np.float32)


def test_running_statistics_are_found_where_the_plan_has_them() -> None:
    running = np.concatenate(
        [
            np.full(tensor.size, tensor.role in (Role.RUNNING_MEAN, Role.RUNNING_VAR))
            for tensor in PLAN.dense
        ]
    )
    assert running.sum() == 12
    assert running_positions(PLAN).tolist() == np.flatnonzero(running).tolist()
    assert running_positions(normed_plan(norm=False)).size == 0


def test_each_level_has_the_mean_over_the_devices_that_trained_it() -> None:
    mean, where = StatisticsMean(PLAN), running_positions(PLAN)
    first, second, third = (some_dense(seed) for seed in range(3))
    mean.add(0.2, first, 10)
    mean.add(0.1, second, 7)
    mean.add(0.2, third, 30)
    found = mean.result()
    assert set(found) == {0.2, 0.1}
    expected = (10 * first[where].astype(np.float64) + 30 * third[where]) / 40
    np.testing.assert_allclose(found[0.2], expected, rtol=1e-6)
    assert np.array_equal(found[0.1], second[where])
    assert found[0.2].dtype == np.float32


def test_a_plan_without_running_statistics_has_none() -> None:
    mean = StatisticsMean(normed_plan(norm=False))
    mean.add(0.2, np.ones(9, np.float32), 3)
    assert mean.result() == {}


def test_a_level_takes_its_own_and_one_that_nobody_trained_what_all_have() -> None:
    where, dense = running_positions(PLAN), some_dense(0)
    own = np.arange(12, dtype=np.float32)
    known = LevelStatistics(positions=where, values={0.2: own})
    taken = known.dense_at(0.2, dense)
    assert np.array_equal(taken[where], own)
    others = np.setdiff1d(np.arange(PLAN.num_dense), where)
    assert np.array_equal(taken[others], dense[others])
    assert known.dense_at(0.1, dense) is dense
    assert np.array_equal(dense, some_dense(0))


def test_a_round_replaces_what_it_found_and_leaves_the_rest() -> None:
    where = running_positions(PLAN)
    known = LevelStatistics(positions=where, values={0.2: np.zeros(12, np.float32)})
    later = known.followed_by({0.1: np.ones(12, np.float32)})
    assert later.values[0.2].max() == 0
    assert later.values[0.1].min() == 1
    assert set(known.values) == {0.2}
    assert later.followed_by({0.2: np.ones(12, np.float32)}).values[0.2].min() == 1


@pytest.mark.parametrize("level", [0.5, 0.25])
def test_the_model_of_a_level_has_its_own_statistics(level: float) -> None:
    state = make_method("pdst", (0.5, 0.25), plan=PLAN, rounds=1).initial(np.random.default_rng(0))
    assert state.weights_at(level) is state.weights
    own = np.arange(12, dtype=np.float32)
    known = LevelStatistics(positions=running_positions(PLAN), values={0.5: own})
    state = replace(state, statistics=known)
    for weights in (state.weights_at(level), state.level_weights(level)):
        found = weights.dense[running_positions(PLAN)]
        assert np.array_equal(found, own) == (level == 0.5)
    assert state.level_weights(level).prunable.size == state.masks[level].sum()
