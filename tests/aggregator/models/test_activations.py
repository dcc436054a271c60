"""Activations come in whichever way a model or an exporter writes them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_zoo import Model, logits_of, predict

from aggregator.models.formulas import ACTIVATIONS, POINTS, recognise
from aggregator.models.from_onnx import from_onnx
from aggregator.models.from_torch import from_torch
from fedsparse.plan import (
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Operator,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
)

Function = Callable[[torch.Tensor], torch.Tensor]
WRITTEN: dict[str, tuple[Function, Operator]] = {
    "relu": (F.relu, Relu()),
    "clamp from zero": (lambda x: x.clamp(min=0), Relu()),
    "relu6": (F.relu6, Relu6()),
    "hardtanh": (lambda x: F.hardtanh(x, 0, 6), Relu6()),
    "clamp to six": (lambda x: torch.clamp(x, 0, 6), Relu6()),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.1), LeakyRelu(slope=0.1)),
    "the larger of two": (lambda x: torch.maximum(x, 0.05 * x), LeakyRelu(slope=0.05)),
    "sigmoid": (torch.sigmoid, Sigmoid()),
    "tanh": (torch.tanh, Tanh()),
    "silu": (F.silu, Silu()),
    "silu by hand": (lambda x: x * torch.sigmoid(x), Silu()),
    "gelu": (F.gelu, Gelu()),
    "gelu by hand": (lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), Gelu()),
    "gelu with tanh": (lambda x: F.gelu(x, approximate="tanh"), Gelu(approximate=True)),
    "gelu with tanh by hand": (
        lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3)))),
        Gelu(approximate=True),
    ),
    "hardsigmoid": (F.hardsigmoid, HardSigmoid()),
    "hardsigmoid by hand": (lambda x: F.relu6(x + 3) / 6, HardSigmoid()),
    "hardswish": (F.hardswish, HardSwish()),
    "hardswish by hand": (lambda x: x * F.relu6(x + 3, inplace=True) / 6, HardSwish()),
    "hardswish by hard sigmoid": (lambda x: F.hardsigmoid(x) * x, HardSwish()),
}  # fmt: skip


def model(function: Function) -> nn.Module:
    torch.manual_seed(0)
    return Model(lambda m, x: m.b(function(m.a(x))), a=nn.Linear(5, 30), b=nn.Linear(30, 2)).eval()


SAMPLES = 5 * np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)


@pytest.mark.parametrize("name", WRITTEN)
def test_an_activation_in_torch_is_one_node(name: str) -> None:
    function, operator = WRITTEN[name]
    module = model(function)
    imported = from_torch(module, (5,))
    assert [node.operator for node in imported.plan.nodes][1:-1] == [operator]
    np.testing.assert_allclose(predict(imported, SAMPLES), logits_of(module, SAMPLES), atol=1e-5)


@pytest.mark.parametrize("opset", [11, 14, 17, 20])
@pytest.mark.parametrize("name", WRITTEN)
def test_an_activation_in_a_file_is_one_node(name: str, opset: int, tmp_path: Path) -> None:
    function, operator = WRITTEN[name]
    module, buffer = model(function), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module, (torch.zeros((3, 5)),), buffer, dynamo=False, opset_version=opset,
            dynamic_axes={"x": {0: "batch"}}, input_names=["x"],
        )  # fmt: skip
    (tmp_path / "m.onnx").write_bytes(buffer.getvalue())
    imported = from_onnx(tmp_path / "m.onnx")
    assert [node.operator for node in imported.plan.nodes][1:-1] == [operator]
    np.testing.assert_allclose(predict(imported, SAMPLES), logits_of(module, SAMPLES), atol=1e-5)


def test_an_activation_inside_a_sum_stays_one() -> None:
    imported = from_torch(model(lambda x: x + x * torch.sigmoid(x)), (5,))
    assert [node.operator.kind for node in imported.plan.nodes] == [
        "linear", "silu", "add", "linear",
    ]  # fmt: skip


def test_a_gate_of_another_value_is_a_product_and_not_an_activation() -> None:
    def forward(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return module.c(module.a(x) * torch.sigmoid(module.b(x)))

    module = Model(forward, a=nn.Linear(5, 4), b=nn.Linear(5, 4), c=nn.Linear(4, 2))
    imported = from_torch(module, (5,))
    assert [node.operator.kind for node in imported.plan.nodes] == [
        "linear", "linear", "sigmoid", "mul", "linear",
    ]  # fmt: skip


@pytest.mark.parametrize("operator", [operator for operator, _ in ACTIVATIONS])
def test_values_that_are_a_little_off_are_no_activation(operator: Operator) -> None:
    values = dict(ACTIVATIONS)[operator]
    assert recognise(values) == operator
    assert recognise(values + 1e-3) is None
    assert recognise(1.01 * values) is None
    assert recognise(np.where(POINTS > 3, values + 0.01, values)) is None
