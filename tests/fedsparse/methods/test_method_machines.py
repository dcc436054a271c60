"""The methods as state machines, driven with made-up updates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from fedsparse.errors import ConfigError
from fedsparse.methods.masked_mean import MaskedMean
from fedsparse.methods.method import METHODS, Method, make_method
from fedsparse.methods.state import ServerState
from fedsparse.plan import INPUT, Linear, Node, Plan
from fedsparse.sparsity.densities import layer_slices
from fedsparse.sparsity.evolve import drop_and_grow
from fedsparse.sparsity.masks import counts_of
from fedsparse.types import BoolArray, Weights

PLAN = Plan(
    name="three",
    input_shape=(20,),
    nodes=(
        Node(name="a", operator=Linear(out_features=30), inputs=(INPUT,)),
        Node(name="b", operator=Linear(out_features=40), inputs=("a",)),
        Node(name="c", operator=Linear(out_features=5), inputs=("b",)),
    ),
)  # 600, 1200 and 200 prunable weights
LEVELS = (0.4, 0.2, 0.1)
ROUNDS = 10
SPARSE = [name for name in METHODS if name != "dense"]


def method(name: str, r_int: int = 3, rounds: int = ROUNDS) -> Method:
    levels = (1.0,) if name == "dense" else LEVELS
    return make_method(name, levels, plan=PLAN, rounds=rounds, r_int=r_int, prune_rate=0.3)


def sensed(
    chosen: Method,
    state: ServerState,
    rng: np.random.Generator,
    reports: Sequence[tuple[int, tuple[int, ...]]] = ((1, (300, 400, 100)),),
) -> ServerState:
    """The state after stage 1, whatever a method's devices report there."""
    saliency = rng.random(PLAN.num_prunable, np.float32) if chosen.salient else None
    return chosen.after_sense(state, reports, rng, saliency)


def states(name: str, r_int: int = 3, seed: int = 0) -> Iterator[ServerState]:
    """The states of a whole job: after the start (and stage 1), then after each round."""
    rng = np.random.default_rng(seed)
    chosen = method(name, r_int)
    state = chosen.initial(rng)
    if chosen.senses:
        state = sensed(chosen, state, rng, [(10, (300, 400, 100)), (30, (200, 500, 100))])
    yield state
    own: dict[int, BoolArray] = {}
    for round_id in range(ROUNDS):
        mean, reports = MaskedMean(PLAN.num_prunable, PLAN.num_dense), []
        for device in range(4):
            level = sorted(state.masks)[device % len(state.masks)]
            mask = own.get(device, state.masks[level]) if chosen.own_masks else state.masks[level]
            kept = state.weights.prunable[mask]
            kept = kept + rng.standard_normal(kept.size, np.float32) * np.float32(0.1)
            if chosen.evolves(round_id):
                mask, kept = drop_and_grow(PLAN, mask, kept, chosen.prune_rate(round_id), rng)
            own[device] = mask
            dense = state.weights.dense + np.float32(0.01)
            mean.add(np.flatnonzero(mask), Weights(prunable=kept, dense=dense), 10 + device)
            reports.append((10 + device, level, counts_of(PLAN, mask)))
        state = chosen.next_state(state, mean.result(state.weights), reports, round_id)
        yield state


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("r_int", [1, 3])
def test_every_level_is_exact_and_nested_in_every_state(name: str, r_int: int) -> None:
    for state in states(name, r_int):
        above = np.ones(PLAN.num_prunable, np.bool_)
        for level in sorted(state.masks, reverse=True):
            mask = state.masks[level]
            assert mask.sum() == PLAN.kept(level)
            assert not (mask & ~above).any()
            assert min(counts_of(PLAN, mask)) >= 1
            above = mask


@pytest.mark.parametrize("name", ["dense", "pdst", "spdst", "ssfl"])
def test_fixed_masks_never_move(name: str) -> None:
    first, *later = states(name)
    for state in later:
        assert state.mask_epoch == first.mask_epoch
        assert all(np.array_equal(state.masks[k], first.masks[k]) for k in first.masks)


@pytest.mark.parametrize("r_int", [1, 3, 5, 20])
def test_jmwst_masks_move_at_mask_epochs_only(r_int: int) -> None:
    trail = list(states("jmwst", r_int))
    changed = [
        round_id
        for round_id, (before, after) in enumerate(itertools.pairwise(trail))
        if after.mask_epoch != before.mask_epoch
    ]
    moved = [
        round_id
        for round_id, (before, after) in enumerate(itertools.pairwise(trail))
        if any(not np.array_equal(before.masks[k], after.masks[k]) for k in LEVELS)
    ]
    expected = [r for r in range(ROUNDS - 1) if (r + 1) % r_int == 0]
    assert changed == moved == expected
    assert [r for r in range(ROUNDS) if method("jmwst", r_int).evolves(r)] == expected


@pytest.mark.parametrize("name", ["pdst", "spdst", "jmwst", "ssfl", "sparsyfed"])
def test_nothing_lives_outside_the_largest_mask(name: str) -> None:
    for state in states(name, r_int=2):
        assert not state.weights.prunable[~state.masks[state.d_max]].any()


def test_nst_keeps_what_devices_hold_outside_the_servers_mask() -> None:
    *_, last = states("nst")
    assert last.weights.prunable[~last.masks[last.d_max]].any()


def test_nst_evaluates_the_largest_weights_of_each_layer() -> None:
    *_, last = states("nst")
    mask = last.masks[last.d_max]
    for layer in layer_slices(PLAN):
        size = np.abs(last.weights.prunable[layer])
        assert size[mask[layer]].min() >= size[~mask[layer]].max()


def test_jmwst_keeps_the_largest_aggregated_weights_in_the_mean_profile() -> None:
    chosen = method("jmwst", r_int=1)
    state = chosen.initial(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    mean = Weights(
        prunable=rng.standard_normal(2000, np.float32), dense=rng.standard_normal(75, np.float32)
    )
    # Total 800. A device of half the level counts in proportion: as if (300, 400, 100).
    reports = [(10, 0.4, (100, 600, 100)), (30, 0.2, (150, 200, 50))]
    after = chosen.next_state(state, mean, reports, 0)
    counts = counts_of(PLAN, after.masks[0.4])
    assert counts == (250, 450, 100)  # weighted 10 : 30
    for layer, count in zip(layer_slices(PLAN), counts, strict=True):
        expected = np.argsort(-np.abs(mean.prunable[layer]), kind="stable")[:count]
        assert np.array_equal(np.flatnonzero(after.masks[0.4][layer]), np.sort(expected))
    kept = after.masks[0.4]
    assert np.array_equal(after.weights.prunable[kept], mean.prunable[kept])
    assert np.array_equal(after.weights.dense, mean.dense)


@pytest.mark.parametrize("name", ["nst", "jmwst", "sparsyfed"])
def test_a_round_without_updates_moves_no_mask(name: str) -> None:
    chosen = method(name, r_int=1)
    state = chosen.initial(np.random.default_rng(0))
    after = chosen.next_state(state, state.weights, [], 0)
    assert after.mask_epoch == state.mask_epoch
    assert after.masks is state.masks


def test_masks_that_come_out_the_same_are_no_change() -> None:
    chosen = method("jmwst", r_int=1)
    state = chosen.initial(np.random.default_rng(0))
    counts = counts_of(PLAN, state.masks[0.4])
    weights = Weights(prunable=np.where(state.masks[0.4], np.float32(1), np.float32(0)),
                      dense=state.weights.dense)  # fmt: skip
    settled = chosen.next_state(state, weights, [(1, 0.4, counts)], 0)
    again = chosen.next_state(settled, settled.weights, [(1, 0.4, counts)], 1)
    assert again.mask_epoch == settled.mask_epoch


@pytest.mark.parametrize("name", ["spdst", "jmwst"])
def test_only_the_layer_densities_survive_stage_one(name: str) -> None:
    rng = np.random.default_rng(0)
    chosen = method(name)
    before = chosen.initial(rng)
    assert chosen.senses
    assert not before.sensed
    # By density the devices found 0.5 : 0.25 : 0.5; the second one's total counts the same.
    after = chosen.after_sense(before, [(9, (300, 300, 100)), (3, (150, 150, 50))], rng)
    assert after.sensed
    assert counts_of(PLAN, after.masks[0.4]) == (343, 343, 114)
    assert after.mask_epoch > before.mask_epoch
    both = before.masks[0.4] & after.masks[0.4]
    assert both.sum() < 0.6 * after.masks[0.4].sum()  # positions are drawn anew
    assert not np.array_equal(after.weights.prunable[both], before.weights.prunable[both])
    # Drawn for the new fan-in: the kept share of each layer sets the deviation.
    for layer, count in zip(layer_slices(PLAN)[:2], (343, 343), strict=False):
        size = layer.stop - layer.start
        fan_in = 20 if size == 600 else 30
        std = after.weights.prunable[layer][after.masks[0.4][layer]].std()
        assert std == pytest.approx(np.sqrt(1 / (fan_in * count / size)), rel=0.15)


@pytest.mark.parametrize(("initialisation", "fan_in"), [("kept", 8.0), ("dense", 20.0)])
def test_weights_are_drawn_for_the_fan_in_that_was_chosen(
    initialisation: str, fan_in: float
) -> None:
    chosen = make_method("pdst", LEVELS, plan=PLAN, rounds=ROUNDS, initialisation=initialisation)
    state = chosen.initial(np.random.default_rng(0))
    first = state.weights.prunable[:600][state.masks[0.4][:600]]
    assert first.std() == pytest.approx(np.sqrt(1 / fan_in), rel=0.1)


def test_the_references_lower_levels_follow_the_weights_after_every_round() -> None:
    chosen = make_method("pdst", LEVELS, plan=PLAN, rounds=ROUNDS, reference_compat=True)
    state = chosen.initial(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    mean = Weights(
        prunable=rng.standard_normal(2000, np.float32) * state.masks[0.4],
        dense=state.weights.dense,
    )
    mean.prunable[np.flatnonzero(state.masks[0.4])[:40]] = 0.0  # of the first layer's 240
    after = chosen.next_state(state, mean, [], 0)
    assert np.array_equal(after.masks[0.4], state.masks[0.4])
    # 760 of 2000 are not 0: a level of 400 keeps 400/760 of each layer's, rounded down.
    assert counts_of(PLAN, after.masks[0.2]) == (105, 252, 42)
    for layer in layer_slices(PLAN):
        size, mask = np.abs(mean.prunable[layer]), after.masks[0.2][layer]
        assert size[mask].min() >= size[~mask].max()


def test_a_layer_that_stage_one_fills_passes_the_rest_on() -> None:
    chosen = method("spdst")
    rng = np.random.default_rng(0)
    after = chosen.after_sense(chosen.initial(rng), [(1, (100, 100, 200))], rng)
    assert counts_of(PLAN, after.masks[0.4]) == (300, 300, 200)


def test_stage_one_without_reports_is_refused() -> None:
    chosen = method("spdst")
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no device reported"):
        chosen.after_sense(chosen.initial(rng), [], rng)


@pytest.mark.parametrize("name", METHODS)
def test_pretrained_weights_are_kept_through_stage_one_and_the_largest_selected(name: str) -> None:
    chosen = method(name)
    rng = np.random.default_rng(0)
    given = Weights(
        prunable=rng.standard_normal(2000, np.float32), dense=rng.standard_normal(75, np.float32)
    )
    state = chosen.initial(rng, given)
    if chosen.senses:
        state = sensed(chosen, state, rng)
    mask = state.masks[state.d_max]
    assert np.array_equal(state.weights.prunable, np.where(mask, given.prunable, 0))
    assert np.array_equal(state.weights.dense, given.dense)
    for layer in () if chosen.salient else layer_slices(PLAN):  # there saliency chooses
        size = np.abs(given.prunable[layer])
        assert size[mask[layer]].min() >= size[~mask[layer]].max(initial=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_reproduces_a_job_to_the_bit(name: str) -> None:
    for one, other in zip(states(name, seed=5), states(name, seed=5), strict=True):
        assert one.weights.prunable.tobytes() == other.weights.prunable.tobytes()
        assert all(np.array_equal(one.masks[k], other.masks[k]) for k in one.masks)
    *_, different = states(name, seed=6)
    assert one.weights.prunable.tobytes() != different.weights.prunable.tobytes()


def test_what_a_level_holds_is_its_kept_values() -> None:
    state = method("pdst").initial(np.random.default_rng(0))
    held = state.level_weights(0.1)
    assert np.array_equal(held.prunable, state.weights.prunable[state.masks[0.1]])
    assert held.dense is state.weights.dense


def test_a_state_is_never_changed_in_place() -> None:
    chosen = method("jmwst", r_int=1)
    rng = np.random.default_rng(0)
    state = chosen.initial(rng)
    weights, masks = state.weights.prunable.copy(), {k: m.copy() for k, m in state.masks.items()}
    mean = Weights(prunable=rng.standard_normal(2000, np.float32), dense=state.weights.dense)
    chosen.next_state(state, mean, [(1, 0.4, (300, 400, 100))], 0)
    chosen.after_sense(state, [(1, (300, 400, 100))], rng)
    assert np.array_equal(state.weights.prunable, weights)
    assert all(np.array_equal(state.masks[level], mask) for level, mask in masks.items())


@pytest.mark.parametrize(
    ("name", "senses", "own", "evolves"),
    [
        ("dense", False, False, 0),
        ("nst", False, True, ROUNDS),
        ("pdst", False, False, 0),
        ("spdst", True, False, 0),
        ("jmwst", True, False, 3),
        ("ssfl", True, False, 0),
        ("sparsyfed", False, False, ROUNDS - 1),
    ],
)
def test_what_each_method_asks_of_devices(name: str, senses: bool, own: bool, evolves: int) -> None:
    chosen = method(name)
    assert (chosen.senses, chosen.own_masks) == (senses, own)
    assert sum(chosen.evolves(round_id) for round_id in range(ROUNDS)) == evolves


def test_sparsyfed_moves_its_masks_every_round_but_the_last_and_by_little() -> None:
    trail = list(states("sparsyfed"))
    epochs = [state.mask_epoch for state in trail]
    assert epochs == [*range(ROUNDS), ROUNDS - 1]
    plain = make_method("sparsyfed", LEVELS, plan=PLAN, rounds=ROUNDS)
    others = make_method("jmwst", LEVELS, plan=PLAN, rounds=ROUNDS)
    assert (plain.power, others.power) == (1.25, 1.0)
    assert plain.prune_rate(0) == 0.02 < others.prune_rate(0) == 0.25


def test_the_prune_rate_falls_to_nothing_over_the_rounds() -> None:
    rates = [method("nst").prune_rate(round_id) for round_id in range(ROUNDS)]
    assert rates[0] == 0.3
    assert rates[-1] == 0.0
    assert np.diff(rates) == pytest.approx([-0.3 / 9] * 9)


def test_dense_keeps_everything() -> None:
    state = method("dense").initial(np.random.default_rng(0))
    assert state.masks[1.0].all()


@pytest.mark.parametrize(
    ("name", "levels", "complaint"),
    [
        ("flash", LEVELS, "method 'flash' is none of dense, nst"),
        ("dense", (0.5,), "'dense' has the one level 1.0"),
        ("pdst", (), "levels must be"),
        ("pdst", (0.1, 0.2), "levels must be"),
        ("pdst", (0.2, 0.2), "levels must be"),
        ("pdst", (1.5, 0.2), "levels must be"),
        ("pdst", (0.2, 0.0), "levels must be"),
    ],
)
def test_a_method_that_does_not_exist_or_levels_that_do_not_fit_are_refused(
    name: str, levels: tuple[float, ...], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_method(name, levels, plan=PLAN, rounds=1)


def test_an_initialisation_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="'xavier' is neither 'kept' nor 'dense'"):
        make_method("pdst", LEVELS, plan=PLAN, rounds=1, initialisation="xavier")
