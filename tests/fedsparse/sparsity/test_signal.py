"""What becomes of a signal on its way through sparse layers, by how they were initialised.

The figures of docs/algorithm.md, "Initialisation and levels, measured". A layer's signal is the
mean square of its outputs before the rectifier; weights are drawn so that it is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pytest

from fedsparse.methods.method import make_method
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.densities import layer_slices
from fedsparse.types import BoolArray, Float32Array, Float64Array

DEPTH: Final = 6
WIDTH: Final = 400
LEVELS: Final = (0.2, 0.1, 0.05)
Gain = Callable[[Float32Array, BoolArray, BoolArray], float]


def deep_plan() -> Plan:
    model = PlanBuilder("deep", (WIDTH,))
    for index in range(DEPTH):
        model.linear(f"fc{index}", WIDTH)
        model.relu()
    model.linear("head", 4, prunable=False)
    return model.build()


PLAN: Final = deep_plan()


def no_gain(values: Float32Array, top: BoolArray, mask: BoolArray) -> float:
    return 1.0


def count_gain(values: Float32Array, top: BoolArray, mask: BoolArray) -> float:
    """For weights cut at random: sqrt(d_max_l / d_level_l)."""
    return float(np.sqrt(top.sum() / mask.sum()))


def energy_gain(values: Float32Array, top: BoolArray, mask: BoolArray) -> float:
    """For what was really cut: the square root of the energy of all over that which is kept."""
    return float(np.sqrt(np.square(values[top]).sum() / np.square(values[mask]).sum()))


def heterofl_gain(values: Float32Array, top: BoolArray, mask: BoolArray) -> float:
    """The scaler of HeteroFL (Diao et al., ICLR 2021): d_max_l / d_level_l."""
    return float(top.sum() / mask.sum())


def started(levels: Sequence[float], initialisation: str) -> ServerState:
    method = make_method("pdst", tuple(levels), plan=PLAN, rounds=1, initialisation=initialisation)
    return method.initial(np.random.default_rng(0))


def signals(state: ServerState, level: float, gain: Gain = no_gain) -> Float64Array:
    """`(DEPTH,)`, of the sub-model of a level."""
    signal = np.random.default_rng(1).standard_normal((WIDTH, 256))
    squares = []
    for layer in layer_slices(PLAN):
        values, mask = state.weights.prunable[layer], state.masks[level][layer]
        scale = gain(values, state.masks[state.d_max][layer], mask)
        outputs = (scale * values * mask).reshape(WIDTH, WIDTH) @ signal
        squares.append(np.mean(outputs**2))
        signal = np.maximum(outputs, 0)
    return np.asarray(squares)


def test_the_kept_fan_in_keeps_the_signal_and_the_dense_one_loses_it_layer_by_layer() -> None:
    kept = signals(started((0.05,), "kept"), 0.05)
    dense = signals(started((0.05,), "dense"), 0.05)
    assert (kept > 0.5).all()
    assert (kept < 2.0).all()
    np.testing.assert_allclose(dense / kept, 0.05 ** np.arange(1, DEPTH + 1), rtol=1e-3)


# For each way, what a layer of the lowest level makes of the signal, against the largest level.
@pytest.mark.parametrize(
    ("gain", "factor"),
    [(no_gain, 0.72), (energy_gain, 1.0), (count_gain, 2.9), (heterofl_gain, 11.5)],
)
def test_a_level_of_the_largest_weights_needs_little_gain(gain: Gain, factor: float) -> None:
    state = started(LEVELS, "kept")
    ratio = signals(state, 0.05, gain) / signals(state, 0.2)
    expected = factor ** np.arange(1, DEPTH + 1)
    np.testing.assert_allclose(ratio ** (1 / np.arange(1, DEPTH + 1)), factor, rtol=0.1)
    assert ratio[-1] == pytest.approx(expected[-1], rel=0.6)


def test_a_level_at_random_would_need_the_gain_of_the_counts() -> None:
    state = started(LEVELS, "kept")
    rng = np.random.default_rng(2)
    positions = np.flatnonzero(state.masks[0.2])
    cut = np.zeros(PLAN.num_prunable, np.bool_)
    cut[rng.choice(positions, positions.size // 4, replace=False)] = True
    at_random = ServerState(weights=state.weights, masks={0.2: state.masks[0.2], 0.05: cut})
    for gain, factor in ((no_gain, 0.25), (count_gain, 1.0), (energy_gain, 1.0)):
        ratio = signals(at_random, 0.05, gain) / signals(state, 0.2)
        np.testing.assert_allclose(ratio ** (1 / np.arange(1, DEPTH + 1)), factor, rtol=0.1)
