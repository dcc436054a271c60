"""Scores against torch, and what counts as right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsparse.errors import EngineError
from fedsparse.plan import Loss
from fedsparse.score import score


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 9), outputs=st.integers(2, 5), scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_losses_are_torchs_sums(count: int, outputs: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = (scale * rng.standard_normal((count, outputs))).astype(np.float32)
    labels, bits = rng.integers(0, outputs, count), rng.integers(0, 2, z.shape).astype(np.float32)
    exact = torch.from_numpy(z).double()
    classes, answers = torch.from_numpy(labels), torch.from_numpy(bits).double()
    for loss, targets, expected in (
        (Loss.CROSS_ENTROPY, labels, F.cross_entropy(exact, classes, reduction="sum")),
        (Loss.MSE, bits, F.mse_loss(exact, answers, reduction="sum")),
        (Loss.BCE, bits, F.binary_cross_entropy_with_logits(exact, answers, reduction="sum")),
    ):
        parts = [slice(start, start + 2) for start in range(0, count, 2)]
        found = score(loss, [(z[part], targets[part]) for part in parts])
        assert found.loss_sum == pytest.approx(float(expected), rel=1e-9, abs=1e-12)
        assert found.count == (count if loss is Loss.CROSS_ENTROPY else count * outputs)


def test_right_is_the_largest_logit_or_the_right_side_of_one_half() -> None:
    z = np.array([[0.1, 2.0], [-1.0, -3.0]], np.float32)
    assert score(Loss.CROSS_ENTROPY, [(z, np.array([1, 1]))]).correct == 1
    bits = np.array([[1, 0], [0, 0]], np.float32)
    assert score(Loss.BCE, [(z, bits)]).correct == 3
    assert score(Loss.BCE, [(np.zeros((1, 2), np.float32), bits[:1])]).correct == 1  # 0.5 is a no


def test_a_mean_squared_error_knows_no_right_answer() -> None:
    z = np.ones((3, 2), np.float32)
    found = score(Loss.MSE, [(z, z)])
    assert (found.correct, found.count, found.loss_sum) == (0, 6, 0.0)
    assert not Loss.MSE.has_accuracy


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_no_score(loss: Loss, value: float) -> None:
    targets = np.array([0]) if loss is Loss.CROSS_ENTROPY else np.zeros((1, 2), np.float32)
    with pytest.raises(EngineError, match="outputs are not finite: training has diverged"):
        score(loss, [(np.array([[0.0, value]], np.float32), targets)])
