from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from aggregator.models import to_torch
from aggregator.models.to_torch import PlanModule
from fedsparse.plan import INPUT, Add, Gelu, Operator, Plan, Relu, Relu6, Silu
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


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        (Relu(), np.maximum(NORMAL, 0)),
        (Relu6(), np.clip(NORMAL, 0, 6)),
        (Silu(), NORMAL / (1 + np.exp(-NORMAL))),
        (Gelu(), torch.nn.functional.gelu(torch.from_numpy(NORMAL)).numpy()),
    ],
)
def test_an_activation_of_normal_numbers_has_the_moment_that_draws_have(
    operator: Operator, values: np.ndarray
) -> None:
    assert behind(lambda model: model.add(operator)) == pytest.approx(
        np.square(values).mean(), rel=0.02
    )


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
