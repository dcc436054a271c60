from __future__ import annotations

import numpy as np
import pytest

from fedsparse.plan import INPUT, BatchNorm, Conv, Flatten, Linear, Node, Plan, Relu
from fedsparse.sparsity.densities import layer_slices, uniform_counts
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import random_mask


def conv_plan() -> Plan:
    return Plan(
        name="conv",
        input_shape=(8, 40),
        nodes=(
            Node(
                name="conv",
                operator=Conv(out_channels=64, kernel=(9,), stride=(1,), pads=((4, 4),)),
                inputs=(INPUT,),
            ),
            Node(name="norm", operator=BatchNorm(), inputs=("conv",)),
            Node(name="flat", operator=Flatten(), inputs=("norm",)),
            Node(name="head", operator=Linear(out_features=5, prunable=False), inputs=("flat",)),
        ),
    )


def deep_plan(depth: int, width: int) -> Plan:
    nodes, source = [], INPUT
    for index in range(depth):
        fc, relu = f"fc{index}", f"relu{index}"
        nodes.append(Node(name=fc, operator=Linear(out_features=width), inputs=(source,)))
        nodes.append(Node(name=relu, operator=Relu(), inputs=(fc,)))
        source = relu
    nodes.append(Node(name="head", operator=Linear(out_features=4), inputs=(source,)))
    return Plan(name="deep", input_shape=(width,), nodes=tuple(nodes))


@pytest.mark.parametrize("count", [4608, 461, 46])
def test_weights_have_the_deviation_of_the_kept_fan_in(count: int) -> None:
    weights = initial_weights(conv_plan(), (count,), np.random.default_rng(0))
    expected = np.sqrt(1 / (72 * count / 4608))  # the samples' second moment is 1
    assert weights.prunable.dtype == np.float32
    assert np.std(weights.prunable) == pytest.approx(expected, rel=0.05)
    assert abs(np.mean(weights.prunable)) < 0.05 * expected


def test_dense_tensors_get_their_usual_values_in_plan_order() -> None:
    dense = initial_weights(conv_plan(), (46,), np.random.default_rng(0)).dense
    bias, scale, shift, mean, variance, head, head_bias = np.split(
        dense, np.cumsum([64, 64, 64, 64, 64, 5 * 64 * 40])
    )
    for zeros in (bias, shift, mean, head_bias):
        assert not zeros.any()
    for ones in (scale, variance):
        assert (ones == 1).all()
    assert np.std(head) == pytest.approx(1 / np.sqrt(64 * 40), rel=0.05)  # not pruned: all inputs


@pytest.mark.parametrize("density", [1.0, 0.2, 0.05])
def test_a_signal_passes_many_sparse_layers_at_its_size(density: float) -> None:
    plan = deep_plan(depth=6, width=200)
    rng = np.random.default_rng(3)
    counts = uniform_counts(plan, density)
    mask = random_mask(plan, counts, rng)
    flat = initial_weights(plan, counts, rng).prunable * mask
    signal = rng.standard_normal((200, 64))
    for layer, tensor in list(zip(layer_slices(plan), plan.prunable, strict=True))[:-1]:
        signal = np.maximum(flat[layer].reshape(tensor.shape) @ signal, 0)
    assert 0.3 < np.mean(signal**2) < 3  # a dense scale would leave density ** 6 of it


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (
        initial_weights(conv_plan(), (46,), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.prunable, again.prunable)
    assert np.array_equal(first.dense, again.dense)
    assert not np.array_equal(first.prunable, other.prunable)


def test_a_plan_without_dense_tensors_has_an_empty_dense_vector() -> None:
    plan = Plan(
        name="bare",
        input_shape=(3,),
        nodes=(Node(name="fc", operator=Linear(out_features=2, bias=False), inputs=(INPUT,)),),
    )
    dense = initial_weights(plan, (6,), np.random.default_rng(0)).dense
    assert dense.shape == (0,)
    assert dense.dtype == np.float32
