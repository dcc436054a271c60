"""Our vectors of kept values against the reference's dense tensors, weight by weight."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from flash_reference import (
    Batch,
    State,
    average_weights,
    local_training,
    masked_average_weights,
    masks_of,
    state_of,
    top_masks,
    weights_of,
)

from edge_client.runtime.sparse import SparseEngine
from fedsparse.methods.masked_mean import MaskedMean
from fedsparse.methods.method import Method, make_method
from fedsparse.methods.state import ServerState
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.types import BoolArray, Weights

ROUNDS: Final = 3
RATE: Final = 0.05
BATCH: Final = 5
TOLERANCE: Final = 1e-5
LEVELS: Final = (0.4, 0.3, 0.2)  # {1, 0.75, 0.5} x d_max


def small_plan() -> Plan:
    """Pruned and dense layers, pooling and running statistics."""
    model = PlanBuilder("small", (2, 8, 8))
    model.conv("conv1", 6, 3, pad=1, bias=False)
    model.batch_norm("bn1")
    model.relu()
    model.max_pool(2)
    model.conv("conv2", 8, 3)
    model.relu()
    model.flatten()
    model.linear("fc1", 20)
    model.relu()
    model.linear("fc2", 4, prunable=False)
    return model.build()


PLAN: Final = small_plan()


def batches_of(client: int) -> list[Batch]:
    """Three batches of a client's own; all clients have as many examples."""
    rng = np.random.default_rng([7, client])
    return [
        (rng.standard_normal((BATCH, 2, 8, 8), np.float32), rng.integers(0, 4, BATCH))
        for _ in range(3)
    ]


def our_round(
    method: Method, state: ServerState, levels: dict[int, float], round_id: int, examples: int = 15
) -> ServerState:
    """A round of ours: what clients of these levels make of the state."""
    mean = MaskedMean(PLAN.num_prunable, PLAN.num_dense, reference_compat=method.reference_compat)
    for client, level in levels.items():
        mask = state.masks[level]
        engine = SparseEngine(PLAN, mask, state.level_weights(level), batch_size=BATCH)
        for samples, labels in batches_of(client):
            engine.train_step(samples, labels, learning_rate=RATE)
        mean.add(np.flatnonzero(mask), engine.weights(), examples)
    return method.next_state(state, mean.result(state.weights), [], round_id)


def start(name: str, levels: tuple[float, ...], *, compat: bool) -> tuple[Method, ServerState]:
    rng = np.random.default_rng(3)
    method = make_method(name, levels, plan=PLAN, rounds=ROUNDS, reference_compat=compat)
    state = method.initial(rng)
    if method.senses:
        state = method.after_sense(state, [(1, (60, 200, 500)), (1, (80, 180, 480))], rng)
    return method, state


def largest_difference(ours: Weights, reference: State) -> float:
    theirs = weights_of(PLAN, reference)
    return max(
        float(np.abs(ours.prunable - theirs.prunable).max()),
        float(np.abs(ours.dense - theirs.dense).max()),
    )


def moved(state: ServerState, begun: ServerState) -> float:
    return float(np.abs(state.weights.prunable - begun.weights.prunable).max())


@pytest.mark.parametrize("compat", [True, False])
def test_pdst_gives_the_references_weights(compat: bool) -> None:
    method, state = start("pdst", (0.2,), compat=compat)
    begun = state
    reference = state_of(PLAN, state.weights)
    masks = masks_of(PLAN, state.masks[0.2])
    for round_id, cohort in enumerate([(0, 1, 2), (3, 1, 4), (2, 0, 4)]):
        state = our_round(method, state, dict.fromkeys(cohort, 0.2), round_id)
        reference = average_weights(
            [local_training(PLAN, reference, masks, batches_of(one), RATE) for one in cohort]
        )
        assert largest_difference(state.weights, reference) <= TOLERANCE
    assert moved(state, begun) > 100 * TOLERANCE


# In its round 0 the reference gives everyone the largest budget. The last round has no client that
# holds all of it: what the others do not hold becomes 0 there.
COHORTS: Final = (
    {0: 0.4, 1: 0.4, 2: 0.4, 3: 0.4},
    {0: 0.4, 2: 0.3, 3: 0.3, 4: 0.2},
    {2: 0.3, 3: 0.3, 5: 0.2, 4: 0.2},
)


def hetero(*, compat: bool, examples: int = 15) -> tuple[list[ServerState], list[State]]:
    """The states of a hetero job after each round, ours and the reference's."""
    method, state = start("spdst", LEVELS, compat=compat)
    reference = state_of(PLAN, state.weights)
    top = masks_of(PLAN, state.masks[LEVELS[0]])
    masks = dict.fromkeys(LEVELS, top)
    ours, theirs = [], []
    for round_id, cohort in enumerate(COHORTS):
        state = our_round(method, state, cohort, round_id, examples)
        trained = [
            local_training(PLAN, reference, masks[level], batches_of(client), RATE)
            for client, level in cohort.items()
        ]
        reference = masked_average_weights(trained, [masks[level] for level in cohort.values()])
        masks |= {level: top_masks(reference, top, level) for level in LEVELS[1:]}
        ours.append(state)
        theirs.append(reference)
        if compat:
            for level in LEVELS:
                assert np.array_equal(state.masks[level], joined(masks[level]))
    return ours, theirs


def joined(masks: dict[str, npt.NDArray[np.float64]]) -> BoolArray:
    return np.concatenate([np.asarray(masks[t.name]).ravel() != 0 for t in PLAN.prunable])


def test_hetero_aggregation_gives_the_references_weights() -> None:
    ours, theirs = hetero(compat=True)
    for state, reference in zip(ours, theirs, strict=True):
        assert largest_difference(state.weights, reference) <= TOLERANCE


def test_hetero_parity_is_that_of_the_switch() -> None:
    """Without it what nobody holds keeps its value, and lower levels are another choice."""
    ours, theirs = hetero(compat=False)
    assert largest_difference(ours[0].weights, theirs[0]) <= TOLERANCE  # all at d_max: no choice
    assert largest_difference(ours[-1].weights, theirs[-1]) > 100 * TOLERANCE


def test_a_level_of_the_reference_moves_every_round() -> None:
    ours, _ = hetero(compat=True)
    assert [state.mask_epoch for state in ours] == [2, 3, 4]
    assert not ours[-1].weights.prunable[~ours[-1].masks[0.3] & ours[-1].masks[0.4]].all()
