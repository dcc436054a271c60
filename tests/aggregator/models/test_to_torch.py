"""A plan as a torch module: names, values, and the output of the module that it came from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch_zoo import MODULES, logits_of, zoo_model

from aggregator.models.to_torch import _RUN, load_weights, loss_function, to_torch
from aggregator.models.weights import from_tensors
from fedsparse.errors import PlanError
from fedsparse.plan import (
    INPUT,
    OPERATORS,
    Flatten,
    GlobalAvgPool,
    Linear,
    Loss,
    Mul,
    Node,
    Plan,
    Upsample,
)
from fedsparse.plan.builder import PlanBuilder


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_plan_in_torch_yields_what_the_imported_module_yields(name: str) -> None:
    module, imported = zoo_model(name)
    plan = imported.plan
    again = to_torch(plan).eval()
    load_weights(again, plan, from_tensors(plan, imported.values))
    samples = np.random.default_rng(0).standard_normal((5, *plan.input_shape), dtype=np.float32)
    np.testing.assert_allclose(
        logits_of(again, samples), logits_of(module, samples), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_state_dict_has_the_plans_tensors_and_nothing_else(name: str) -> None:
    plan = zoo_model(name)[1].plan
    module = to_torch(plan)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == {tensor.name: tensor.shape for tensor in plan.tensors}
    trained = {name for name, _ in module.named_parameters()}
    assert trained == {tensor.name for tensor in plan.tensors if tensor.role.is_trained}


def test_training_moves_the_running_statistics_as_the_original_does() -> None:
    original, imported = zoo_model("cifar10")
    plan = imported.plan
    weights = from_tensors(plan, imported.values)
    module = to_torch(plan)
    load_weights(module, plan, weights)
    copied = MODULES["cifar10"]()
    copied.load_state_dict(original.state_dict())
    samples = torch.randn((4, *plan.input_shape), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(4)
    for each in (module, copied.train()):
        loss_function(plan.loss)(each(samples), labels).backward()
    torch.testing.assert_close(
        module.state_dict()["block2.shortcut_bn.running_var"],
        copied.state_dict()["block2.shortcut_bn.running_var"],
    )
    torch.testing.assert_close(
        dict(module.named_parameters())["conv1.weight"].grad, copied.conv1.weight.grad,
        rtol=1e-3, atol=1e-5,
    )  # fmt: skip


def test_a_mask_drops_weights_and_leaves_dense_tensors() -> None:
    plan = zoo_model("digits")[1].plan
    rng = np.random.default_rng(2)
    weights = from_tensors(plan, zoo_model("digits")[1].values)
    mask = rng.random(plan.num_prunable) < 0.3
    module = to_torch(plan)
    load_weights(module, plan, weights, mask)
    state = module.state_dict()
    flat = np.concatenate([state[tensor.name].numpy().ravel() for tensor in plan.prunable])
    np.testing.assert_array_equal(flat, np.where(mask, weights.prunable, 0))
    np.testing.assert_array_equal(state["fc2.bias"].numpy(), weights.dense[-10:])


def test_a_node_name_that_torch_cannot_have_is_refused() -> None:
    plan = Plan(
        name="bad",
        input_shape=(2, 3),
        nodes=(
            Node(name="flat", operator=Flatten(), inputs=(INPUT,)),
            Node(name="forward", operator=Linear(out_features=2), inputs=("flat",)),
        ),
    )
    with pytest.raises(PlanError, match=r"forward\.weight"):
        to_torch(plan)


def test_torch_has_every_operator_that_a_plan_can_hold() -> None:
    assert {operator.kind for operator in _RUN} == set(OPERATORS)


def test_a_gate_scales_channels_and_upsampling_repeats_positions() -> None:
    model = PlanBuilder("gate", (2, 2, 3))
    model.add(Upsample(scale=(2, 3)), name="up")
    model.add(GlobalAvgPool(), "up", name="mean")
    model.add(Mul(), "mean", "up")
    model.flatten()
    model.linear("fc", 2)
    module = to_torch(model.build()).double()
    x = torch.arange(24, dtype=torch.float64).reshape(2, 2, 2, 3)
    up = F.interpolate(x, scale_factor=(2, 3), mode="nearest")
    expected = (up * up.mean((2, 3), keepdim=True)).flatten(1)
    with torch.no_grad():
        module.get_parameter("fc.weight").copy_(torch.ones(2, 72))
        torch.testing.assert_close(module(x)[:, 0], expected.sum(1))


def test_each_loss_is_the_mean_that_its_definition_says() -> None:
    outputs = torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    p = torch.sigmoid(outputs)
    bce = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    torch.testing.assert_close(loss_function(Loss.BCE)(outputs, targets), bce)
    mse = ((outputs - targets) ** 2).mean()
    torch.testing.assert_close(loss_function(Loss.MSE)(outputs, targets), mse)
    entropy = -outputs.log_softmax(1)[[0, 1], [0, 1]].mean()
    labels = torch.tensor([0, 1])
    torch.testing.assert_close(loss_function(Loss.CROSS_ENTROPY)(outputs, labels), entropy)
