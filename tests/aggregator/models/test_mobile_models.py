"""MobileNet- and DS-CNN-style models come in from torch and from both of its ONNX exporters."""

from __future__ import annotations

import functools
import io
import itertools
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_zoo import (
    KeywordNet,
    MobileNet,
    MobileNetV3Block,
    Model,
    logits_of,
    predict,
    randomised,
)

from aggregator.models.assembly import Imported
from aggregator.models.from_onnx import from_onnx
from aggregator.models.from_torch import from_torch
from fedsparse.plan import Conv, Dropout, GroupNorm, LayerNorm, Linear, Mul, Relu6, Shape, Upsample

WAYS = ("torch", "classic", "dynamo")
MODELS = {
    "keyword": (KeywordNet, (1, 49, 10)),
    "mobilenet": (MobileNet, (3, 32, 32)),
    "mobilenet v3": (MobileNetV3Block, (3, 16, 16)),
}


@functools.cache
def mobile_model(name: str, way: str) -> tuple[nn.Module, Imported]:
    """A model and its import, which takes long; change neither."""
    make, shape = MODELS[name]
    module = randomised(make())
    with tempfile.TemporaryDirectory() as folder:
        return module, bring_in(module, shape, way, Path(folder))


def bring_in(
    module: nn.Module, shape: Shape, way: str, folder: Path, *, opset: int = 18
) -> Imported:
    """The module's import, directly or through a file of one of torch's exporters."""
    if way == "torch":
        return from_torch(module, shape)
    samples, file = torch.zeros((2, *shape)), folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations in the exporters themselves
        if way == "classic":
            buffer = io.BytesIO()
            torch.onnx.export(
                module, (samples,), buffer, dynamo=False, opset_version=17, input_names=["x"],
                dynamic_axes={"x": {0: "batch"}},
            )  # fmt: skip
            file.write_bytes(buffer.getvalue())
        else:
            program = torch.onnx.export(
                module, (samples,), dynamo=True, verbose=False,
                opset_version=opset,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
            file.write_bytes(program.model_proto.SerializeToString())
    return from_onnx(file)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_mobile_model_comes_in_with_its_logits(name: str, way: str) -> None:
    module, imported = mobile_model(name, way)
    shape = imported.plan.input_shape
    samples = np.random.default_rng(1).standard_normal((5, *shape), np.float32)
    wanted = logits_of(module, samples)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(predict(imported, samples), wanted, atol=2e-5 * scale)
    depthwise = [
        node
        for node in imported.plan.nodes
        if isinstance(node.operator, Conv)
        and node.operator.is_depthwise(imported.plan.shapes[node.inputs[0]][0])
    ]
    assert len(depthwise) == {"keyword": 4, "mobilenet": 7, "mobilenet v3": 1}[name]


@pytest.mark.parametrize("way", WAYS)
def test_relu6_and_a_squeeze_and_excite_gate_are_recognised(way: str) -> None:
    v3 = mobile_model("mobilenet v3", way)[1].plan
    kinds = [node.operator.kind for node in v3.nodes]
    assert [kinds.count(kind) for kind in ("hard_swish", "hard_sigmoid", "mul")] == [4, 1, 1]
    gate = next(node for node in v3.nodes if isinstance(node.operator, Mul))
    assert sorted(len(v3.shapes[source]) for source in gate.inputs) == [1, 3]
    v2 = mobile_model("mobilenet", way)[1].plan
    assert sum(node.operator == Relu6() for node in v2.nodes) == 15


def test_dropout_keeps_its_probability_and_a_gate_its_names() -> None:
    module, imported = mobile_model("mobilenet v3", "torch")
    assert Dropout(p=0.2) in [node.operator for node in imported.plan.nodes]
    names = {key for key, value in module.state_dict().items() if value.ndim}
    assert imported.values.keys() == names
    linear = next(node for node in imported.plan.nodes if node.name == "block.6.fc1")
    assert linear.operator == Linear(out_features=8)


def squeeze(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3))


GATES = {
    "view": lambda m, x: x * m.gate(squeeze(x)).sigmoid().view(-1, 4, 1, 1),
    "unsqueeze": lambda m, x: m.gate(squeeze(x)).sigmoid().unsqueeze(-1).unsqueeze(-1) * x,
    "index": lambda m, x: x * m.gate(squeeze(x)).sigmoid()[:, :, None, None],
    "expand": lambda m, x: x * m.gate(squeeze(x)).sigmoid().view(-1, 4, 1, 1).expand_as(x),
    "pool": lambda m, x: x * m.point(F.adaptive_avg_pool2d(x, 1)).sigmoid(),
    "plain pool": lambda m, x: x * m.point(F.avg_pool2d(x, 6)).sigmoid(),
    "in place": lambda m, x: x.mul_(m.gate(squeeze(x)).sigmoid().view(-1, 4, 1, 1)),
}


@pytest.mark.parametrize(
    ("name", "way"),
    [*itertools.product(GATES, ("torch", "classic")), ("index", "dynamo"), ("expand", "dynamo")],
)
def test_every_way_to_write_a_gate_is_understood(name: str, way: str, tmp_path: Path) -> None:
    module = Model(
        lambda m, x: m.fc(GATES[name](m, m.conv(x)).flatten(1)),
        conv=nn.Conv2d(2, 4, 3), gate=nn.Linear(4, 4), point=nn.Conv2d(4, 4, 1),
        fc=nn.Linear(144, 3),
    ).eval()  # fmt: skip
    imported = bring_in(module, (2, 8, 8), way, tmp_path)
    assert sum(node.operator == Mul() for node in imported.plan.nodes) == 1
    samples = np.random.default_rng(1).standard_normal((5, 2, 8, 8), np.float32)
    np.testing.assert_allclose(predict(imported, samples), logits_of(module, samples), atol=1e-5)


class Pyramid(nn.Module):
    """Norms without batches, dilation, groups; branches that are scaled up and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=2, dilation=2)
        self.groups = nn.GroupNorm(4, 8, eps=1e-4)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.layer = nn.LayerNorm([8, 4, 4], eps=1e-3)
        self.up = nn.Upsample(scale_factor=2)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.groups(self.stem(x)), 0.1)
        y = self.up(F.gelu(self.layer(self.down(x))))
        z = F.interpolate(y, size=(8, 8))
        return self.fc(self.drop(torch.cat([x, z], dim=1).mean((2, 3))))


@pytest.mark.parametrize(
    ("way", "opset"), [("torch", 0), ("classic", 17), ("dynamo", 18), ("dynamo", 20)]
)
def test_norms_groups_dilation_upsampling_and_joins_come_in(
    way: str, opset: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = Pyramid()
    for norm in (module.groups, module.layer):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    imported = bring_in(module.eval(), (2, 8, 8), way, tmp_path, opset=opset)
    operators = [node.operator for node in imported.plan.nodes]
    for operator in (GroupNorm(groups=4, eps=1e-4), LayerNorm(axes=3, eps=1e-3)):
        assert operator in operators
    assert Upsample(scale=(2, 2)) in operators
    convolutions = [one for one in operators if isinstance(one, Conv)]
    assert [(one.dilation, one.groups) for one in convolutions] == [((2, 2), 1), ((1, 1), 2)]
    samples = np.random.default_rng(1).standard_normal((5, 2, 8, 8), np.float32)
    np.testing.assert_allclose(predict(imported, samples), logits_of(module, samples), atol=1e-5)
