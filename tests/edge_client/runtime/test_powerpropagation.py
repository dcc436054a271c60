"""Training in theta, against autograd through `w = theta * |theta|^(beta - 1)` in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_plans import random_batch, random_mask, residual_plan
from engines import ENGINES, make_engine, start_weights
from torch.func import functional_call
from torch_oracle import split

from aggregator.models.to_torch import load_weights, loss_function, to_torch
from edge_client.runtime.gradient import probe, slope
from edge_client.runtime.powerpropagation import GROWN_SHARE, Powerpropagation
from fedsparse.errors import EngineError
from fedsparse.plan import INPUT, Dropout, Linear, Node, Plan
from fedsparse.types import BoolArray, Float32Array, Weights

BETA = 1.25


class ThetaOracle:
    """Dense float64 thetas times a mask, and `torch.optim.SGD` on them."""

    def __init__(
        self, plan: Plan, mask: BoolArray, weights: Weights, beta: float, **sgd: float
    ) -> None:
        self.plan, self.mask, self.beta = plan, mask, beta
        self.module = to_torch(plan).double()
        full = np.zeros(plan.num_prunable, np.float32)
        full[mask] = weights.prunable
        load_weights(self.module, plan, Weights(prunable=full, dense=weights.dense))
        self.parameters = dict(self.module.named_parameters())
        self.thetas = {}
        for tensor in plan.prunable:
            w = self.parameters[tensor.name].detach()
            self.thetas[tensor.name] = (w.sign() * w.abs() ** (1 / beta)).requires_grad_()
        self.kept = {
            tensor.name: torch.tensor(part.reshape(tensor.shape))
            for tensor, part in zip(plan.prunable, split(plan.prunable, mask), strict=True)
        }
        others = [one for name, one in self.parameters.items() if name not in self.thetas]
        self.optimizer = torch.optim.SGD([*self.thetas.values(), *others], lr=0.1, **sgd)

    def powers(self) -> dict[str, torch.Tensor]:
        return {
            name: (theta * theta.abs() ** (self.beta - 1)).where(self.kept[name], 0.0)
            for name, theta in self.thetas.items()
        }

    def backward(self, samples: Float32Array, labels: Any) -> None:  # noqa: ANN401
        self.optimizer.zero_grad()
        outputs = functional_call(self.module, self.powers(), torch.tensor(samples).double())
        loss_function(self.plan.loss)(outputs, torch.tensor(labels)).backward()
        for name, theta in self.thetas.items():  # |0|^(1/4) has no slope that torch knows
            theta.grad = theta.grad.where(self.kept[name], 0.0)

    def weights(self) -> Weights:
        state = self.module.state_dict() | {n: w.detach() for n, w in self.powers().items()}
        prunable, dense = (
            np.concatenate([state[one.name].numpy().ravel() for one in tensors])
            for tensors in (self.plan.prunable, self.plan.dense)
        )
        return Weights(
            prunable=prunable[self.mask].astype(np.float32), dense=dense.astype(np.float32)
        )


def start(kind: str = "0.3", seed: int = 0) -> tuple[Plan, BoolArray, Weights, Any]:
    plan, rng = residual_plan(), np.random.default_rng(seed)
    mask = random_mask(plan, kind, rng)
    return plan, mask, start_weights(plan, mask, rng), rng


def powered(
    plan: Plan,
    mask: BoolArray,
    weights: Weights,
    engine: str = "sparse",
    **options: Any,  # noqa: ANN401
) -> Powerpropagation:
    options = {"beta": BETA} | options
    inner = {"batch_size": 6, "micro_batch": options.pop("micro_batch", 6)}
    return Powerpropagation(
        make_engine(engine, plan, mask, weights, **inner), plan, mask, **options
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_the_gradient_of_a_far_step_is_autograds(engine: str) -> None:
    plan, mask, weights, rng = start()
    samples, labels = random_batch(plan, 6, rng)
    probed = probe(make_engine(engine, plan, mask, weights, batch_size=6), samples, labels)
    taken, dense = (
        slope(getattr(probed.before, kind), getattr(probed.after, kind))
        for kind in ("prunable", "dense")
    )
    oracle = ThetaOracle(plan, mask, weights, beta=1.0)
    oracle.backward(samples, labels)
    slopes = [oracle.thetas[tensor.name].grad.numpy().ravel() for tensor in plan.prunable]
    np.testing.assert_allclose(taken, np.concatenate(slopes)[mask], 1e-4, 1e-6)
    start_at = 0
    for tensor in plan.dense:
        if tensor.role.is_trained:
            expected = oracle.parameters[tensor.name].grad.numpy().ravel()
            found = dense[start_at : start_at + tensor.size]
            np.testing.assert_allclose(found, expected, 1e-4, 1e-6)
        start_at += tensor.size


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("beta", [1.0, 1.25, 2.0])
def test_ten_steps_are_torchs_in_theta(engine: str, beta: float) -> None:
    plan, mask, weights, rng = start()
    sgd = {"momentum": 0.9, "weight_decay": 1e-2}
    trained = powered(plan, mask, weights, engine, beta=beta, **sgd)
    oracle = ThetaOracle(plan, mask, weights, beta, **sgd)
    for _ in range(10):
        samples, labels = random_batch(plan, 6, rng)
        trained.train_step(samples, labels, learning_rate=0.02)
        oracle.backward(samples, labels)
        oracle.optimizer.param_groups[0]["lr"] = 0.02
        oracle.optimizer.step()
    found, expected = trained.weights(), oracle.weights()
    np.testing.assert_allclose(found.prunable, expected.prunable, 1e-3, 1e-4)
    np.testing.assert_allclose(found.dense, expected.dense, 1e-3, 1e-4)
    assert np.abs(found.prunable - weights.prunable).max() > 0.01


def test_a_power_of_one_is_the_engine_itself() -> None:
    plan, mask, weights, rng = start()
    plain = make_engine("sparse", plan, mask, weights, batch_size=6, momentum=0.9)
    trained = powered(plan, mask, weights, beta=1.0, momentum=0.9)
    for _ in range(3):
        samples, labels = random_batch(plan, 6, rng)
        losses = [one.train_step(samples, labels, learning_rate=0.02) for one in (plain, trained)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    np.testing.assert_allclose(trained.weights().prunable, plain.weights().prunable, 1e-4, 1e-6)
    np.testing.assert_allclose(trained.logits(samples), plain.logits(samples), 1e-4, 1e-5)


def test_a_weight_of_zero_stays_and_large_ones_move_more_than_small_ones() -> None:
    plan, mask, weights, rng = start()
    weights.prunable[5] = 0.0
    trained = powered(plan, mask, weights, beta=2.0)
    plain = make_engine("sparse", plan, mask, weights, batch_size=6)
    samples, labels = random_batch(plan, 6, rng)
    for one in (trained, plain):
        one.train_step(samples, labels, learning_rate=1e-3)
    moved, step = (one.weights().prunable - weights.prunable for one in (trained, plain))
    assert trained.weights().prunable[5] == 0.0
    # To first order: dw = (dw/dtheta)^2 times the plain step, and dw/dtheta = 2 sqrt(|w|).
    clear = np.abs(step) > 1e-5
    ratio = moved[clear] / step[clear]
    np.testing.assert_allclose(ratio, 4 * np.abs(weights.prunable[clear]), rtol=0.1, atol=0.02)


def test_what_has_grown_starts_small_and_keeps_no_momentum_and_the_rest_stays() -> None:
    plan, mask, weights, rng = start()
    trained = powered(plan, mask, weights, momentum=0.9)
    samples, labels = random_batch(plan, 6, rng)
    trained.train_step(samples, labels, learning_rate=0.02)
    before = trained.weights()
    kept, free = np.flatnonzero(mask)[:4], np.flatnonzero(~mask[: plan.prunable[0].size])[:4]
    moved = mask.copy()
    moved[kept], moved[free] = False, True
    full = np.zeros(mask.size, np.float32)
    full[mask] = before.prunable
    full[kept] = 0.0
    trained.replace_mask(moved, full[moved])
    after = np.zeros_like(full)
    after[moved] = trained.weights().prunable
    both = mask & moved
    np.testing.assert_array_equal(after[both], full[both])
    first = full[: plan.prunable[0].size]
    size = GROWN_SHARE * np.abs(first[first != 0]).mean()
    np.testing.assert_allclose(np.abs(after[free]), size, rtol=1e-5)
    fresh = powered(plan, moved, trained.weights())
    for one in (trained, fresh):
        one.train_step(samples, labels, learning_rate=0.02)
    carried = np.zeros_like(full)
    carried[moved] = np.abs(trained.weights().prunable - fresh.weights().prunable)
    assert carried[both].max() > 1e-3
    np.testing.assert_allclose(carried[free], 0.0, atol=1e-7)


def test_beginning_anew_is_as_good_as_a_new_one() -> None:
    plan, mask, weights, rng = start()
    used, fresh = (powered(plan, mask, weights, momentum=0.9) for _ in range(2))
    batches = [random_batch(plan, 6, rng) for _ in range(4)]
    for samples, labels in batches[:2]:
        used.train_step(samples, labels, learning_rate=0.05)
    used.restart(weights)
    for samples, labels in batches[2:]:
        for one in (used, fresh):
            one.train_step(samples, labels, learning_rate=0.05)
    np.testing.assert_array_equal(used.weights().prunable, fresh.weights().prunable)
    np.testing.assert_array_equal(used.weights().dense, fresh.weights().dense)


def test_micro_batches_change_nothing_but_rounding() -> None:
    plan = Plan(
        name="two", input_shape=(8,),
        nodes=(
            Node(name="a", operator=Linear(out_features=12), inputs=(INPUT,)),
            Node(name="b", operator=Linear(out_features=3), inputs=("a",)),
        ),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    mask = random_mask(plan, "0.3", rng)
    weights = start_weights(plan, mask, rng)
    batches = [random_batch(plan, 6, rng) for _ in range(3)]
    results = []
    for micro_batch in (6, 2):
        trained = powered(plan, mask, weights, micro_batch=micro_batch)
        for samples, labels in batches:
            trained.train_step(samples, labels, learning_rate=0.1)
        results.append(trained.weights().prunable)
    np.testing.assert_allclose(*results, 1e-4, 1e-6)


def test_every_step_drops_out_anew() -> None:
    plan = Plan(
        name="dropping", input_shape=(16,),
        nodes=(
            Node(name="a", operator=Linear(out_features=32), inputs=(INPUT,)),
            Node(name="out", operator=Dropout(p=0.5), inputs=("a",)),
            Node(name="b", operator=Linear(out_features=3), inputs=("out",)),
        ),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    mask = random_mask(plan, "all", rng)
    trained = powered(plan, mask, start_weights(plan, mask, rng))
    samples, labels = random_batch(plan, 6, rng)
    losses = {trained.train_step(samples, labels, learning_rate=0.0) for _ in range(4)}
    assert len(losses) == 4


@pytest.mark.parametrize("beta", [0.9, 0.0, float("nan")])
def test_a_power_below_one_is_refused(beta: float) -> None:
    plan, mask, weights, _ = start()
    with pytest.raises(EngineError, match="at least 1"):
        powered(plan, mask, weights, beta=beta)
