from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from aggregator.models import to_torch
from aggregator.models.to_torch import PlanModule
from fedsparse.plan import (
    INPUT,
    Add,
    AvgPool,
    Concat,
    Dropout,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mul,
    Operator,
    Plan,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
    activations,
)  # fmt: skip
from fedsparse.plan.builder import PlanBuilder
from fedsparse.plan.zoo import PLANS
from fedsparse.sparsity.densities import uniform_counts
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import random_mask
from fedsparse.sparsity.moments import input_moments

NORMAL = np.random.default_rng(0).standard_normal((200_000, 9))


def behind(add: Callable[[PlanBuilder], object], shape: tuple[int, ...] = (2, 12, 12)) -> float:
    """The second moment that a layer sees behind a convolution and what `add` puts there."""
    model = PlanBuilder("probe", shape)
    model.conv("first", 4, 3, pad=1)
    add(model)
    model.conv("probe", 3, 1)
    model.flatten()
    model.linear("head", 2)
    return input_moments(model.build())["probe.weight"]


ACTIVATIONS: dict[Operator, Callable[[torch.Tensor], torch.Tensor]] = {
    Relu(): functional.relu,
    Relu6(): functional.relu6,
    LeakyRelu(slope=0.3): lambda x: functional.leaky_relu(x, 0.3),
    Sigmoid(): functional.sigmoid,
    Tanh(): functional.tanh,
    Silu(): functional.silu,
    Gelu(): functional.gelu,
    HardSigmoid(): functional.hardsigmoid,
    HardSwish(): functional.hardswish,
}


@pytest.mark.parametrize("operator", ACTIVATIONS, ids=lambda operator: operator.kind)
def test_an_activation_of_normal_numbers_has_the_moment_that_draws_have(operator: Operator) -> None:
    values = ACTIVATIONS[operator](torch.from_numpy(NORMAL)).numpy()
    assert behind(lambda model: model.add(operator)) == pytest.approx(
        np.square(values).mean(), rel=0.02
    )


def test_no_activation_is_forgotten() -> None:
    """Dropout is none: outside of training it hands on what it reads."""
    known = {kind for kind in vars(activations).values() if inspect.isclass(kind)}
    operators = {kind for kind in known if issubclass(kind, Operator)}
    assert operators - {Operator, Dropout} == {type(operator) for operator in ACTIVATIONS}


@pytest.mark.parametrize("kernel", [2, 3])
def test_the_largest_of_a_window_is_larger_than_one_number(kernel: int) -> None:
    largest = NORMAL[:, : kernel * kernel].max(axis=1)
    found = behind(lambda model: model.max_pool(kernel))
    assert found == pytest.approx(np.square(largest).mean(), rel=0.02)


def test_what_is_added_up_has_the_sum_of_the_variances() -> None:
    def twice(model: PlanBuilder) -> None:
        start = model.last
        model.relu("a")
        model.add(Add(), start, model.last)

    rectified = np.maximum(NORMAL[:, 0], 0)
    assert behind(twice) == pytest.approx(np.square(NORMAL[:, 1] + rectified).mean(), rel=0.02)


def test_what_is_multiplied_has_the_product_of_the_second_moments() -> None:
    def gated(model: PlanBuilder) -> None:
        start = model.last
        gate = model.add(Sigmoid(), start)
        model.add(Mul(), start, gate)

    gates = 1 / (1 + np.exp(-NORMAL[:, 1]))
    expected = np.square(NORMAL[:, 0] * gates).mean()  # taken for independent
    assert behind(gated) == pytest.approx(expected, rel=0.02)


def test_what_is_put_side_by_side_has_the_mean_moment_by_size() -> None:
    def beside(model: PlanBuilder) -> None:
        start = model.last
        wide = model.conv("wide", 12, 3, pad=1)
        model.add(Concat(), wide, model.add(Relu(), start))

    assert behind(beside) == pytest.approx((12 * 1.0 + 4 * 0.5) / 16, rel=0.02)


def test_what_is_averaged_has_so_much_less_variance() -> None:
    rectified = np.maximum(NORMAL[:, :4], 0).mean(axis=1)

    def averaged(model: PlanBuilder) -> None:
        model.relu()
        model.add(AvgPool(kernel=(2, 2), stride=(2, 2), pads=((0, 0), (0, 0))))

    assert behind(averaged) == pytest.approx(np.square(rectified).mean(), rel=0.02)


def variances(plan: Plan, module: PlanModule, samples: torch.Tensor) -> dict[str, float]:
    """Of what each weighted layer yields, over the samples."""
    values, found = {INPUT: samples}, {}
    with torch.no_grad():
        for node in plan.nodes:
            inputs = [values[source] for source in node.inputs]
            run = to_torch._RUN[type(node.operator)]
            values[node.name] = run(node.operator, inputs, module._owned(node.name), True)
            if node.operator.kind in ("conv", "linear"):
                found[node.name] = float(values[node.name].var())
    return found


@pytest.mark.parametrize("density", [1.0, 0.05])
@pytest.mark.parametrize("name", ["mnist", "watch", "digits", "cifar10", "mobilenet"])
def test_every_layer_of_a_model_begins_near_variance_one(name: str, density: float) -> None:
    plan, rng = PLANS[name](), np.random.default_rng(1)
    counts = uniform_counts(plan, density)
    module = to_torch.to_torch(plan)
    to_torch.load_weights(
        module, plan, initial_weights(plan, counts, rng), random_mask(plan, counts, rng)
    )
    samples = rng.standard_normal((64, *plan.input_shape)).astype(np.float32)
    found = variances(plan, module, torch.from_numpy(samples))
    assert len(found) > 2
    for node, variance in found.items():
        assert 0.15 < variance < 6, (node, variance)  # the rectifier-only scale yields up to 60
