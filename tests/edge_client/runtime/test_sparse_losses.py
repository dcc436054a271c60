"""The losses against torch in float64, far out too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_plans import assert_gradients_agree, between, mobile_plan, node
from torch_oracle import TorchOracle

from edge_client.runtime.native.library import Library
from edge_client.runtime.sparse import SparseEngine
from fedsparse.plan import INPUT, Linear, Loss, Plan, Tanh
from fedsparse.types import Weights


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("batch", [1, 3, 8, 17, 33])
def test_every_loss_gives_torchs_gradients(loss: Loss, batch: int) -> None:
    plan = replace(between(Tanh(), (9,)), loss=loss)
    assert_gradients_agree(plan, "all", batch, seed=batch)


def test_a_single_output_is_enough_for_losses_of_numbers() -> None:
    for loss in (Loss.MSE, Loss.BCE):
        plan = one_layer(loss)
        assert_gradients_agree(plan, "all", 7, seed=1)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("name", Library().variants)
def test_every_variant_gives_torchs_gradients(loss: Loss, name: str) -> None:
    plan, library = replace(mobile_plan(), loss=loss), Library(variant=name)
    for batch in (2, 9, 32):
        assert_gradients_agree(plan, "0.4", batch, seed=batch, library=library)


@pytest.mark.parametrize("size", [0.0, 1e-6, 20.0, 100.0, 1e6])
@pytest.mark.parametrize("loss", [Loss.MSE, Loss.BCE])
def test_outputs_of_any_size_give_torchs_loss_and_gradient(loss: Loss, size: float) -> None:
    """Binary cross-entropy neither overflows nor loses small terms."""
    plan, mask = one_layer(loss), np.ones(6, np.bool_)
    weights = Weights(prunable=np.zeros(6, np.float32), dense=np.zeros(1, np.float32))
    weights.prunable[0] = size
    samples = np.zeros((4, 6), np.float32)
    samples[:, 0] = [1, -1, 1, -1]
    targets = np.array([[0], [0], [1], [1]], np.float32)
    losses, moved = [], []
    for trained in (SparseEngine(plan, mask, weights, batch_size=4),
                    TorchOracle(plan, mask, weights)):  # fmt: skip
        losses.append(trained.train_step(samples, targets, learning_rate=1.0))
        moved.append(trained.weights().prunable - weights.prunable)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-6, atol=1e-7 * max(1, size))


def one_layer(loss: Loss) -> Plan:
    """One output."""
    last = node("last", Linear(out_features=1), INPUT)
    return Plan(name="one", input_shape=(6,), nodes=(last,), loss=loss)
