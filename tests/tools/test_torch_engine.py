"""Training in torch: as the native engine trains, and as plain torch would under masks.

What every engine promises is tested with the others, in `test_engine_contract.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest
import torch

from aggregator.models.to_torch import load_weights, loss_function, to_torch
from aggregator.models.weights import from_tensors
from edge_client.runtime.engine import Engine
from edge_client.runtime.sparse import SparseEngine
from fedsparse.errors import ConfigError, EngineError
from fedsparse.plan import INPUT, BatchNorm, Dropout, Linear, Loss, Node, Operator, Plan, Relu
from fedsparse.plan.zoo import PLANS
from fedsparse.sparsity.densities import layer_slices
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import counts_of
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights
from tools.torch_engine import open_torch_engine, torch_device
from tools.torch_engine.engine import TorchEngine

torch.set_num_threads(1)  # the tests run side by side

# Of the weights' change. Where a ReLU's input lies within rounding of zero, one engine finds it
# open and the other shut; the seed is one at which that matters little.
DRIFT = {"cifar10": 2e-3, "dscnn": 2e-3, "mobilenet": 2e-3}
PLAIN = 1e-5
EVERY_OPERATION = {"momentum": 0.9, "weight_decay": 1e-3}


Batch: TypeAlias = tuple[Float32Array, IntArray | Float32Array]


def random_mask(plan: Plan, density: float, rng: np.random.Generator) -> BoolArray:
    return rng.random(plan.num_prunable) < density


def start_weights(plan: Plan, mask: BoolArray, rng: np.random.Generator) -> Weights:
    drawn = initial_weights(plan, counts_of(plan, mask), rng)
    return Weights(prunable=drawn.prunable[mask], dense=drawn.dense)


def random_batch(plan: Plan, batch: int, rng: np.random.Generator) -> Batch:
    samples = rng.standard_normal((batch, *plan.input_shape), dtype=np.float32)
    if plan.loss is Loss.CROSS_ENTROPY:
        return samples, rng.integers(0, plan.classes, batch)
    return samples, rng.random((batch, plan.classes), dtype=np.float32)


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([weights.prunable, weights.dense]).astype(np.float64)


def drift(actual: Weights, expected: Weights, start: Weights) -> float:
    moved = np.linalg.norm(flat(expected) - flat(start))
    return float(np.linalg.norm(flat(actual) - flat(expected)) / moved)


@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("name", sorted(PLANS))
def test_it_trains_as_the_native_engine_does(name: str, density: float) -> None:
    plan, rng = PLANS[name](), np.random.default_rng(5)
    mask = random_mask(plan, density, rng)
    start = start_weights(plan, mask, rng)
    native = SparseEngine(plan, mask, start, batch_size=8, **EVERY_OPERATION)
    ours = TorchEngine(plan, mask, start, batch_size=8, **EVERY_OPERATION)
    for batch in (8, 5, 8):
        samples, labels = random_batch(plan, batch, rng)
        expected = native.train_step(samples, labels, learning_rate=0.005)
        actual = ours.train_step(samples, labels, learning_rate=0.005)
        assert actual == pytest.approx(expected, rel=1e-3)
    assert drift(ours.weights(), native.weights(), start) < DRIFT.get(name, PLAIN)
    predicted, exact = ours.logits(samples), native.logits(samples)
    # Running statistics of three batches are far from the activations: what differs is amplified.
    allowed = 1e-2 if name in DRIFT else 1e-3
    assert np.linalg.norm(predicted - exact) < allowed * np.linalg.norm(exact)


def test_another_mask_and_a_new_beginning_are_the_native_engines() -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(3)
    mask, other = (random_mask(plan, density, rng) for density in (0.2, 0.4))
    start, anew = start_weights(plan, mask, rng), start_weights(plan, other, rng)
    both = (
        SparseEngine(plan, mask, start, batch_size=8, **EVERY_OPERATION),
        TorchEngine(plan, mask, start, batch_size=8, **EVERY_OPERATION),
    )
    batches = [random_batch(plan, 8, rng) for _ in range(4)]
    for engine in both:
        train(engine, batches)
        engine.replace_mask(other, anew.prunable)
        train(engine, batches)
    native, ours = (engine.weights() for engine in both)
    assert drift(ours, native, anew) < PLAIN
    for engine in both:
        engine.restart(anew)
        train(engine, batches)
    native, ours = (engine.weights() for engine in both)
    assert drift(ours, native, anew) < PLAIN


def train(engine: Engine, batches: Iterable[Batch]) -> list[float]:
    return [engine.train_step(*batch, learning_rate=0.02) for batch in batches]


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_in_float64_it_is_torchs_own_sgd_on_masked_weights(name: str, loss: Loss) -> None:
    plan, rng = replace(PLANS[name](), loss=loss), np.random.default_rng(4)
    mask = random_mask(plan, 0.2, rng)
    start = start_weights(plan, mask, rng)
    batches = [random_batch(plan, batch, rng) for batch in (6, 4, 6)]
    engine = TorchEngine(plan, mask, start, batch_size=6, dtype=torch.float64, **EVERY_OPERATION)
    losses = train(engine, batches)
    exact_losses, exact = plain_sgd(plan, mask, start, batches)
    np.testing.assert_allclose(losses, exact_losses, rtol=1e-12)
    rounding = 2 * np.finfo(np.float32).eps  # of the weights that are given out
    np.testing.assert_allclose(flat(engine.weights()), flat(exact), rtol=rounding, atol=1e-12)


def test_a_softmax_comes_before_the_loss_where_it_is_asked_for() -> None:
    plan, rng = PLANS["digits"](), np.random.default_rng(4)
    mask = random_mask(plan, 0.2, rng)
    start = start_weights(plan, mask, rng)
    batches = [random_batch(plan, 6, rng) for _ in range(3)]
    engine = TorchEngine(
        plan, mask, start, batch_size=6, dtype=torch.float64, softmax_first=True, **EVERY_OPERATION
    )
    plain, logits = loss_function(plan.loss), engine.logits(batches[0][0])
    losses = train(engine, batches)
    exact_losses, exact = plain_sgd(
        plan, mask, start, batches, lambda outputs, to: plain(torch.softmax(outputs, 1), to)
    )
    np.testing.assert_allclose(losses, exact_losses, rtol=1e-12)
    rounding = 2 * np.finfo(np.float32).eps
    np.testing.assert_allclose(flat(engine.weights()), flat(exact), rtol=rounding, atol=1e-12)
    untouched = TorchEngine(plan, mask, start, batch_size=6, dtype=torch.float64)
    np.testing.assert_array_equal(logits, untouched.logits(batches[0][0]))


def test_a_softmax_before_another_loss_is_refused() -> None:
    plan, rng = replace(PLANS["digits"](), loss=Loss.MSE), np.random.default_rng(4)
    mask = random_mask(plan, 0.2, rng)
    with pytest.raises(EngineError, match="a softmax comes before cross-entropy, not before mse"):
        TorchEngine(plan, mask, start_weights(plan, mask, rng), batch_size=6, softmax_first=True)


def plain_sgd(
    plan: Plan,
    mask: BoolArray,
    start: Weights,
    batches: Iterable[Batch],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> tuple[list[float], Weights]:
    """Dense tensors, `torch.optim.SGD`, and a hook that masks their gradients."""
    module, loss = to_torch(plan).double(), loss or loss_function(plan.loss)
    full = np.zeros(plan.num_prunable, np.float32)
    full[mask] = start.prunable
    load_weights(module, plan, Weights(prunable=full, dense=start.dense))
    for tensor, layer in zip(plan.prunable, layer_slices(plan), strict=True):
        kept = torch.tensor(mask[layer].reshape(tensor.shape))
        module.get_parameter(tensor.name).register_hook(kept.mul)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.02, **EVERY_OPERATION)
    losses = []
    for samples, labels in batches:
        optimizer.zero_grad()
        targets = torch.tensor(labels, dtype=torch.int64 if labels.ndim == 1 else torch.float64)
        value = loss(module(torch.tensor(samples, dtype=torch.float64)), targets)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    state = {name: values.numpy() for name, values in module.state_dict().items()}
    trained = from_tensors(plan, state)
    return losses, Weights(prunable=trained.prunable[mask], dense=trained.dense)


def test_what_a_mask_dropped_is_zero_when_it_comes_back() -> None:
    """Neither decay nor an old value or momentum is left at a position that was not kept."""
    plan, rng = one_layer(Relu()), np.random.default_rng(5)
    everything, first = np.ones(plan.num_prunable, np.bool_), np.arange(plan.num_prunable) < 12
    start = start_weights(plan, everything, rng)
    engine = TorchEngine(plan, everything, start, batch_size=4, **EVERY_OPERATION)
    batches = [random_batch(plan, 4, rng) for _ in range(3)]
    train(engine, batches)
    engine.replace_mask(first, engine.weights().prunable[:12])
    train(engine, batches)
    kept = np.concatenate([engine.weights().prunable, np.zeros(first.size - 12, np.float32)])
    before = engine.logits(batches[0][0])
    engine.replace_mask(everything, kept)
    np.testing.assert_array_equal(engine.logits(batches[0][0]), before)
    engine.train_step(np.zeros((4, 6), np.float32), batches[0][1], learning_rate=0.02)
    # No input, no gradient: of the first layer only what was kept has momentum that moves it on.
    moved = engine.weights().prunable != kept
    assert moved[:12].all()
    assert not moved[12:48].any()


def one_layer(middle: Operator) -> Plan:
    """`middle` between two layers: 6 inputs, 8 units, 3 classes."""
    return Plan(
        name="one",
        input_shape=(6,),
        nodes=(
            Node(name="first", operator=Linear(out_features=8), inputs=(INPUT,)),
            Node(name="middle", operator=middle, inputs=("first",)),
            Node(name="last", operator=Linear(out_features=3), inputs=("middle",)),
        ),
    )


def dropping(seed: int) -> tuple[TorchEngine, Weights, list[Batch]]:
    plan, rng = one_layer(Dropout(p=0.5)), np.random.default_rng(6)
    mask = random_mask(plan, 0.7, rng)
    weights = start_weights(plan, mask, rng)
    batches = [random_batch(plan, 8, rng) for _ in range(3)]
    return TorchEngine(plan, mask, weights, batch_size=8, seed=seed), weights, batches


def test_what_is_dropped_out_follows_from_seed_and_step_alone() -> None:
    (one, weights, batches), (same, *_), (other, *_) = dropping(7), dropping(7), dropping(8)
    losses = train(one, batches)
    torch.rand(1)  # someone else's
    assert train(same, batches) == losses
    assert train(other, batches) != losses
    other.restart(weights, seed=7)
    assert train(other, batches) == losses
    again = [one.train_step(*batches[0], learning_rate=0.0) for _ in range(2)]
    assert again[0] != again[1]


def test_a_step_takes_no_tf32_and_leaves_torchs_generator_and_settings_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[tuple[bool, bool]] = []

    def noting(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        taken.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))
        return loss_function(Loss.CROSS_ENTROPY)(outputs, targets)

    monkeypatch.setattr("tools.torch_engine.engine.loss_function", lambda _: noting)
    engine, _, batches = dropping(0)
    state, tf32 = torch.get_rng_state(), torch.backends.cudnn.allow_tf32
    train(engine, batches)
    engine.logits(batches[0][0])
    assert taken == [(False, True)] * 3
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert not torch.backends.cudnn.deterministic


def test_samples_that_may_not_be_written_are_trained_on() -> None:
    """As those of a file that is mapped into memory."""
    engine, _, [(samples, labels), *_] = dropping(0)
    samples.setflags(write=False)
    labels.setflags(write=False)
    assert np.isfinite(engine.train_step(samples, labels, learning_rate=0.1))
    assert engine.logits(samples).shape == (8, 3)


def test_a_lone_sample_is_refused_where_batch_norm_needs_two() -> None:
    plan, rng = one_layer(BatchNorm()), np.random.default_rng(8)
    mask = random_mask(plan, 1.0, rng)
    engine = TorchEngine(plan, mask, start_weights(plan, mask, rng), batch_size=2)
    with pytest.raises(EngineError, match="batch of one has no variance for batch-norm 'middle'"):
        engine.train_step(*random_batch(plan, 1, rng), learning_rate=0.1)
    engine.train_step(*random_batch(plan, 2, rng), learning_rate=0.1)


def opened(device: str) -> Engine:
    plan, rng = PLANS["digits"](), np.random.default_rng(9)
    mask = random_mask(plan, 0.1, rng)
    return open_torch_engine(
        plan,
        mask,
        start_weights(plan, mask, rng),
        batch_size=4,
        momentum=0.9,
        weight_decay=0.0,
        seed=0,
        device=device,
    )


def test_the_engine_that_is_opened_learns_its_batch() -> None:
    engine = opened("cpu")
    batch = random_batch(PLANS["digits"](), 4, np.random.default_rng(10))
    losses = train(engine, [batch] * 20)
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_with_a_way_out(device: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot train on '{device}' here .*try 'cpu'"):
        opened(device)


@pytest.mark.parametrize(("found", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_chosen_where_torch_finds_one(
    found: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert torch_device() == device


def test_without_torch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for attempt in (torch_device, lambda: opened("cpu")):
        with pytest.raises(ConfigError, match=r"pip install 'fedsparse\[torch\]'"):
            attempt()


def test_who_might_choose_the_engine_does_not_import_torch() -> None:
    program = "import sys, tools.torch_engine; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
