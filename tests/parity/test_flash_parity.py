"""Our vectors of kept values against the reference's dense tensors, weight by weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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

from aggregator.accumulate import Spooled, Terms, fold
from aggregator.aggregation import Mean
from aggregator.model import GlobalModel
from aggregator.updates import Asked, Contribution
from edge_client.runtime.sparse import SparseEngine
from fedsparse.methods.method import make_method
from fedsparse.methods.state import ServerState
from fedsparse.methods.statistics import running_positions
from fedsparse.plan import Plan
from fedsparse.plan.builder import PlanBuilder
from fedsparse.sparsity.masks import counts_of
from fedsparse.types import BoolArray, Float32Array, Weights
from fedsparse.wire.messages import Stage, Update

ROUNDS: Final = 3
RATE: Final = 0.05
BATCH: Final = 5
TOLERANCE: Final = 1e-5
LEVELS: Final = (0.4, 0.3, 0.2)  # {1, 0.75, 0.5} x d_max

Examples = Callable[[int], int]  # of a client


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


def as_many(client: int) -> int:
    """All clients have the same number of examples."""
    return 15


def more_and_more(client: int) -> int:
    """The reference has no such number: it counts every client once."""
    return 5 + 10 * client


def our_round(
    model: GlobalModel, levels: dict[int, float], round_index: int, examples: Examples
) -> ServerState:
    """A round of ours: clients of these levels train, and the gateway takes in what they made."""
    sent = model.state
    digests = {level: model.level_digest(level) for level in levels.values()}

    def trained(name: str) -> Spooled:
        client = int(name)
        level = levels[client]
        mask = sent.masks[level]
        engine = SparseEngine(PLAN, mask, sent.level_weights(level), batch_size=BATCH)
        for samples, labels in batches_of(client):
            engine.train_step(samples, labels, learning_rate=RATE)
        update = Update(
            job="parity",
            round_id=round_index + 1,
            stage=Stage.TRAIN,
            level=level,
            num_examples=examples(client),
            mask_digest=digests[level],
            parts=(),
        )
        counts = counts_of(PLAN, mask)
        asked = Asked(
            stage=Stage.TRAIN,
            level=level,
            mask_digest=digests[level],
            mask=lambda: mask,
            sent=str,
            before=lambda: sent.level_weights(level),
            evolves=False,
        )
        content = Contribution(mask=mask, weights=engine.weights(), counts=counts)
        return Spooled(update=update, contribution=content, asked=asked, read=lambda *_: b"")

    folded = fold(
        PLAN,
        [str(client) for client in levels],
        trained,
        sent.weights,
        # the switch alone is to bring back the reference's statistics
        Mean(PLAN, reference_compat=model.method.reference_compat, level_statistics=True),
        Terms(max_examples=100_000),
    )
    model.absorb(Stage.TRAIN, round_index, folded, seed=0)
    return model.state


def start(folder: Path, name: str, levels: tuple[float, ...], *, compat: bool) -> GlobalModel:
    rng = np.random.default_rng(3)
    method = make_method(name, levels, plan=PLAN, rounds=ROUNDS, reference_compat=compat)
    state = method.initial(rng)
    if method.senses:
        state = method.after_sense(state, [(1, (60, 200, 500)), (1, (80, 180, 480))], rng)
    return GlobalModel(PLAN, method, state, folder, {})


def running(weights: Weights) -> Float32Array:
    """The running statistics of batch-norm, `(num_running,)`."""
    found: Float32Array = weights.dense[running_positions(PLAN)]
    assert found.size == 12
    return found


def largest_difference(ours: Weights, reference: State) -> float:
    theirs = weights_of(PLAN, reference)
    return max(
        float(np.abs(ours.prunable - theirs.prunable).max()),
        float(np.abs(ours.dense - theirs.dense).max()),
    )


def pdst(
    folder: Path, *, compat: bool, examples: Examples
) -> tuple[list[ServerState], list[State]]:
    """The states of a job at one level before it and after each round, ours and the reference's."""
    model = start(folder, "pdst", (0.2,), compat=compat)
    ours, theirs = [model.state], [state_of(PLAN, model.state.weights)]
    masks = masks_of(PLAN, model.state.masks[0.2])
    for index, cohort in enumerate([(0, 1, 2), (3, 1, 4), (2, 0, 4)]):
        ours.append(our_round(model, dict.fromkeys(cohort, 0.2), index, examples))
        trained = [
            local_training(PLAN, theirs[-1], masks, batches_of(client), RATE) for client in cohort
        ]
        theirs.append(average_weights(trained))
    return ours, theirs


@pytest.mark.parametrize(
    ("compat", "examples"), [(True, as_many), (True, more_and_more), (False, as_many)]
)
def test_pdst_gives_the_references_weights(
    tmp_path: Path, compat: bool, examples: Examples
) -> None:
    ours, theirs = pdst(tmp_path, compat=compat, examples=examples)
    for state, reference in zip(ours, theirs, strict=True):
        assert largest_difference(state.weights, reference) <= TOLERANCE
    moved = np.abs(ours[-1].weights.prunable - ours[0].weights.prunable)
    assert moved.max() > 100 * TOLERANCE


def test_running_statistics_are_plainly_averaged_by_the_switch(tmp_path: Path) -> None:
    """What is sent next is what the reference has; without the switch examples count."""
    ours, theirs = pdst(tmp_path / "compat", compat=True, examples=more_and_more)
    for state, reference in zip(ours, theirs, strict=True):
        plain = running(weights_of(PLAN, reference))
        np.testing.assert_allclose(running(state.weights_at(0.2)), plain, atol=TOLERANCE)
        assert state.statistics is None
    assert np.abs(running(ours[-1].weights) - running(ours[0].weights)).max() > 0.1
    weighted, _ = pdst(tmp_path / "ours", compat=False, examples=more_and_more)
    apart = running(weighted[-1].weights_at(0.2)) - running(weights_of(PLAN, theirs[-1]))
    assert np.abs(apart).max() > 100 * TOLERANCE


# In its round 0 the reference gives everyone the largest budget. The last round has no client that
# holds all of it: what the others do not hold becomes 0 there.
COHORTS: Final = (
    {0: 0.4, 1: 0.4, 2: 0.4, 3: 0.4},
    {0: 0.4, 2: 0.3, 3: 0.3, 4: 0.2},
    {2: 0.3, 3: 0.3, 5: 0.2, 4: 0.2},
)


def hetero(
    folder: Path, *, compat: bool, examples: Examples = as_many
) -> tuple[list[ServerState], list[State]]:
    """The states of a hetero job after each round, ours and the reference's."""
    model = start(folder, "spdst", LEVELS, compat=compat)
    reference = state_of(PLAN, model.state.weights)
    top = masks_of(PLAN, model.state.masks[LEVELS[0]])
    masks = dict.fromkeys(LEVELS, top)
    ours, theirs = [], []
    for index, cohort in enumerate(COHORTS):
        state = our_round(model, cohort, index, examples)
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


@pytest.mark.parametrize("examples", [as_many, more_and_more])
def test_hetero_aggregation_gives_the_references_weights(
    tmp_path: Path, examples: Examples
) -> None:
    ours, theirs = hetero(tmp_path, compat=True, examples=examples)
    for state, reference in zip(ours, theirs, strict=True):
        assert largest_difference(state.weights, reference) <= TOLERANCE


def test_hetero_parity_is_that_of_the_switch(tmp_path: Path) -> None:
    """Without it what nobody holds keeps its value, and lower levels are another choice."""
    ours, theirs = hetero(tmp_path, compat=False)
    assert largest_difference(ours[0].weights, theirs[0]) <= TOLERANCE  # all at d_max: no choice
    assert largest_difference(ours[-1].weights, theirs[-1]) > 100 * TOLERANCE


@pytest.mark.parametrize("compat", [True, False])
def test_levels_share_the_running_statistics_of_the_reference(tmp_path: Path, compat: bool) -> None:
    ours, theirs = hetero(tmp_path, compat=compat)
    mixture = running(weights_of(PLAN, theirs[-1]))
    apart = [np.abs(running(ours[-1].weights_at(level)) - mixture).max() for level in LEVELS]
    assert (max(apart) <= TOLERANCE) == compat
    assert compat or min(apart) > 100 * TOLERANCE


def test_a_level_of_the_reference_moves_every_round(tmp_path: Path) -> None:
    ours, _ = hetero(tmp_path, compat=True)
    assert [state.mask_epoch for state in ours] == [2, 3, 4]
    assert not ours[-1].weights.prunable[~ours[-1].masks[0.3] & ours[-1].masks[0.4]].all()
