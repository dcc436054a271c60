"""SSFL: a mask of what is salient, and weights that stay."""

from __future__ import annotations

import numpy as np
import pytest

from fedsparse.methods.method import Method, make_method
from fedsparse.methods.state import ServerState
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.densities import layer_slices
from fedsparse.sparsity.masks import counts_of
from fedsparse.types import Float32Array, Weights

LEVELS = (0.4, 0.2, 0.05)


def three_layers() -> PlanBuilder:
    model = PlanBuilder("three", (20,))
    model.linear("a", 30)
    model.linear("b", 40)
    model.linear("c", 5)
    return model


PLAN = three_layers().build()  # 600, 1200 and 200 prunable weights


def begun(initialisation: str = "kept", given: Weights | None = None) -> tuple[Method, ServerState]:
    method = make_method("ssfl", LEVELS, plan=PLAN, rounds=5, initialisation=initialisation)
    return method, method.initial(np.random.default_rng(0), given)


def some_saliency(seed: int = 1) -> Float32Array:
    return np.random.default_rng(seed).random(PLAN.num_prunable, np.float32)


def after(method: Method, state: ServerState, saliency: Float32Array) -> ServerState:
    return method.after_sense(state, [], np.random.default_rng(2), saliency)


def test_stage_one_is_done_with_all_weights_at_every_level() -> None:
    method, state = begun()
    assert method.senses
    assert method.salient
    assert not state.sensed
    assert all(mask.all() for mask in state.masks.values())
    assert tuple(state.masks) == LEVELS
    assert {method.first_counts(level) for level in LEVELS} == {(600, 1200, 200)}
    # Drawn for a dense fan-in: that is the model whose gradient is measured.
    assert state.weights.prunable[:600].std() == pytest.approx(np.sqrt(1 / 20), rel=0.1)


def test_the_mask_is_the_most_salient_of_all_layers_together_and_levels_are_nested() -> None:
    method, state = begun()
    saliency = some_saliency()
    saliency[:600] *= 1.5  # a layer that matters more gets more
    found = after(method, state, saliency)
    assert found.sensed
    assert found.mask_epoch == state.mask_epoch + 1
    order = np.argsort(-saliency, kind="stable")
    above = np.ones(PLAN.num_prunable, np.bool_)
    for level in LEVELS[:2]:
        expected = np.zeros(PLAN.num_prunable, np.bool_)
        expected[order[: PLAN.kept(level)]] = True
        assert np.array_equal(found.masks[level], expected)
    for level in LEVELS:
        assert found.masks[level].sum() == PLAN.kept(level)
        assert not (found.masks[level] & ~above).any()
        above = found.masks[level]
    assert counts_of(PLAN, found.masks[0.2])[0] > 200


def test_a_layer_that_matters_to_nobody_keeps_its_best_weight() -> None:
    method, state = begun()
    saliency = some_saliency()
    saliency[1800:] *= 1e-6
    best = 1800 + int(np.argmax(saliency[1800:]))
    found = after(method, state, saliency)
    for level in LEVELS:
        assert np.flatnonzero(found.masks[level][1800:]).tolist() == [best - 1800]
        assert found.masks[level].sum() == PLAN.kept(level)


@pytest.mark.parametrize("initialisation", ["kept", "dense"])
def test_the_weights_stay_those_that_were_measured_but_for_a_scale_a_layer(
    initialisation: str,
) -> None:
    method, state = begun(initialisation)
    found = after(method, state, some_saliency())
    mask = found.masks[LEVELS[0]]
    assert not found.weights.prunable[~mask].any()
    for layer in layer_slices(PLAN):
        before = state.weights.prunable[layer]
        ratio = (found.weights.prunable[layer] / before)[mask[layer]]
        assert np.ptp(ratio) < 1e-5
        energy = np.square(found.weights.prunable[layer]).sum() / np.square(before).sum()
        if initialisation == "dense":
            assert ratio.mean() == 1.0
        else:
            assert energy == pytest.approx(1.0, rel=1e-4)
            assert ratio.mean() > 1.2


def test_pretrained_weights_are_not_scaled() -> None:
    rng = np.random.default_rng(5)
    given = Weights(
        prunable=rng.standard_normal(2000, np.float32), dense=rng.standard_normal(75, np.float32)
    )
    method, state = begun(given=given)
    found = after(method, state, some_saliency())
    expected = np.where(found.masks[0.4], given.prunable, 0)
    assert np.array_equal(found.weights.prunable, expected)


def test_a_stage_one_without_saliency_is_refused() -> None:
    method, state = begun()
    with pytest.raises(ValueError, match="saliency"):
        method.after_sense(state, [(1, (600, 1200, 200))], np.random.default_rng(0))
