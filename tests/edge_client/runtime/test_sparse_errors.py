"""What the engine refuses, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from engine_plans import Labels, between, conv, node, random_batch, random_mask, random_weights

from edge_client.runtime.lowering import RULES, lower
from edge_client.runtime.sparse import SparseEngine
from fedsparse.errors import EngineError
from fedsparse.plan import (
    INPUT,
    OPERATORS,
    BatchNorm,
    Dropout,
    Flatten,
    Gelu,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Linear,
    Loss,
    MaxPool,
    Operator,
    Plan,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
    Upsample,
)
from fedsparse.types import Weights

PLAN = between(conv(4, (3,)), (3, 8))
RNG = np.random.default_rng(0)
MASK = random_mask(PLAN, "0.5", RNG)
WEIGHTS = random_weights(PLAN, MASK, RNG)
SAMPLES, LABELS = random_batch(PLAN, 4, RNG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Operator):
    kind: ClassVar[str] = "unknown"


def engine(**changes: Any) -> SparseEngine:  # noqa: ANN401
    arguments: dict[str, Any] = {
        "plan": PLAN,
        "mask": MASK,
        "weights": WEIGHTS,
        "batch_size": 4,
        "momentum": 0.9,
    }
    return SparseEngine(**(arguments | changes))


@pytest.mark.parametrize(
    "operator",
    [
        Relu6(), LeakyRelu(), Sigmoid(), Tanh(), Silu(), Gelu(), Gelu(approximate=True),
        HardSigmoid(), HardSwish(), Dropout(p=0.9), Upsample(scale=(2,)), GroupNorm(groups=1),
        LayerNorm(axes=2),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("loss", list(Loss))
def test_nan_passes_every_operator_into_the_loss(operator: Operator, loss: Loss) -> None:
    plan = replace(between(operator, (3, 8)), loss=loss)
    mask = np.ones(plan.num_prunable, np.bool_)
    rng = np.random.default_rng(1)
    trained = engine(plan=plan, mask=mask, weights=random_weights(plan, mask, rng))
    samples, targets = random_batch(plan, 3, rng)
    samples[1, 0, 5] = np.nan
    with pytest.raises(EngineError, match="training diverged: the loss is nan"):
        trained.train_step(samples, targets, learning_rate=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("middle", [Relu(), MaxPool(kernel=(2,), stride=(2,), pads=((0, 0),))])
def test_a_sample_that_is_not_finite_stops_training_and_moves_nothing(
    value: float, middle: Relu | MaxPool
) -> None:
    plan = between(middle, (3, 8))
    mask = np.ones(plan.num_prunable, np.bool_)
    weights = random_weights(plan, mask, np.random.default_rng(1))
    trained = engine(plan=plan, mask=mask, weights=weights)
    samples = SAMPLES.copy()
    samples[1] = value
    with pytest.raises(EngineError, match="training diverged: the loss is"):
        trained.train_step(samples, LABELS, learning_rate=0.1)
    np.testing.assert_array_equal(trained.weights().prunable, weights.prunable)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": MASK[:-1]}, r"the mask must be \(\d+,\) of bool"),
        ({"mask": MASK.astype(np.uint8)}, "of bool .* of uint8"),
        ({"weights": Weights(prunable=WEIGHTS.prunable[1:], dense=WEIGHTS.dense)}, "mask keeps"),
        ({"weights": Weights(prunable=WEIGHTS.prunable, dense=WEIGHTS.dense[1:])}, "dense values"),
        ({"batch_size": 0}, "batch size must be at least 1"),
    ],
)
def test_an_engine_refuses_what_does_not_fit_its_plan(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        engine(**changes)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda e: e.train_step(SAMPLES[:, :2], LABELS, learning_rate=0.1), "takes samples of"),
        (lambda e: e.logits(SAMPLES[0]), "takes samples of"),
        (lambda e: e.train_step(SAMPLES[:0], LABELS[:0], learning_rate=0.1), "takes 1 to 4"),
        (lambda e: e.train_step(SAMPLES, LABELS[1:], learning_rate=0.1), "integer labels"),
        (lambda e: e.train_step(SAMPLES, LABELS * 1.0, learning_rate=0.1), "integer labels"),
        (lambda e: e.train_step(SAMPLES, LABELS + 3, learning_rate=0.1), "labels must be 0 to 2"),
        (lambda e: e.train_step(SAMPLES, LABELS - 3, learning_rate=0.1), "labels must be 0 to 2"),
        (lambda e: e.replace_mask(MASK[1:], WEIGHTS.prunable), "the mask must be"),
        (lambda e: e.replace_mask(~MASK, np.zeros(1, np.float32)), "the mask keeps"),
    ],
)
def test_a_refused_call_leaves_the_engine_as_it_was(
    step: Callable[[SparseEngine], object], message: str
) -> None:
    spoilt, sound = engine(), engine()
    with pytest.raises(EngineError, match=message):
        step(spoilt)
    for either in (spoilt, sound):
        either.train_step(SAMPLES, LABELS, learning_rate=0.1)
    np.testing.assert_array_equal(spoilt.weights().prunable, sound.weights().prunable)


def test_a_batch_larger_than_announced_is_refused() -> None:
    with pytest.raises(EngineError, match="a batch of 4: this engine takes 1 to 3"):
        engine(batch_size=3).train_step(SAMPLES, LABELS, learning_rate=0.1)


def test_a_batch_of_one_is_refused_where_batch_norm_would_see_a_single_value() -> None:
    plan = between(BatchNorm(), (4,))
    mask = np.ones(plan.num_prunable, np.bool_)
    rng = np.random.default_rng(2)
    trained = engine(plan=plan, mask=mask, weights=random_weights(plan, mask, rng))
    samples, labels = random_batch(plan, 4, rng)
    trained.train_step(samples[:2], labels[:2], learning_rate=0.1)
    with pytest.raises(EngineError, match="batch-norm 'middle': drop the last sample"):
        trained.train_step(samples[:1], labels[:1], learning_rate=0.1)


def test_a_pooling_window_that_is_too_large_is_named() -> None:
    pool = MaxPool(kernel=(300, 1), stride=(1, 1), pads=((0, 0), (0, 0)))
    plan = Plan(
        name="pool",
        input_shape=(1, 300, 300),
        nodes=(
            node("pool", pool, INPUT),
            node("flat", Flatten(), "pool"),
            node("last", Linear(out_features=2), "flat"),
        ),
    )
    mask = np.zeros(plan.num_prunable, np.bool_)
    mask[0] = True
    weights = Weights(prunable=np.ones(1, np.float32), dense=np.zeros(2, np.float32))
    with pytest.raises(EngineError, match=r"node 'pool'.*spans 89701 positions"):
        engine(plan=plan, mask=mask, weights=weights)


def test_an_operator_without_a_kernel_is_named() -> None:
    plan = between(Unknown(), (4, 8))
    with pytest.raises(EngineError, match="'middle': the sparse engine has no kernel for 'unkno"):
        lower(plan, [tensor.size for tensor in plan.prunable])


def test_every_operator_of_a_plan_has_its_rule() -> None:
    assert set(RULES) == set(OPERATORS.values())


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (Loss.MSE, LABELS, r"loss 'mse' need numbers of shape \(4, 3\) as targets, got \(4,\)"),
        (Loss.MSE, np.zeros((4, 2), np.float32), r"shape \(4, 3\) as targets, got \(4, 2\)"),
        (Loss.MSE, np.zeros((4, 3), np.bool_), "got .* of bool"),
        (Loss.BCE, np.full((4, 3), 1.1, np.float32), "must be 0 to 1, got .* to 1.1"),
        (Loss.BCE, np.full((4, 3), -0.1, np.float32), "must be 0 to 1, got -0.1"),
        (Loss.BCE, np.full((4, 3), np.nan, np.float32), "must be 0 to 1, got nan"),
        (Loss.CROSS_ENTROPY, np.zeros((4, 3), np.float32), "integer labels"),
    ],
)
def test_targets_that_do_not_suit_the_loss_are_refused(
    loss: Loss, targets: Labels, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        engine(plan=replace(PLAN, loss=loss)).train_step(SAMPLES, targets, learning_rate=0.1)
