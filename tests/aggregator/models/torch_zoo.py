"""The models of fedsparse/plan/zoo.py as a user would write them in torch."""

import functools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from aggregator.models.assembly import Imported
from aggregator.models.from_torch import from_torch
from aggregator.models.session import open_session
from aggregator.models.to_onnx import to_onnx
from aggregator.models.weights import from_tensors
from fedsparse.plan.zoo import PLANS


class WatchNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(6, 64, 9, padding=4)
        self.conv2 = nn.Conv1d(64, 64, 9, padding="same")
        self.conv3 = nn.Conv1d(64, 128, 5, stride=2, padding=2)
        self.fc1 = nn.Linear(128 * 13, 128)
        self.fc2 = nn.Linear(128, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool1d(F.relu(self.conv1(x)), 2)
        x = F.max_pool1d(self.conv2(x).relu(), 2)
        x = torch.flatten(torch.relu(self.conv3(x)), 1)
        return self.fc2(F.relu(self.fc1(x)))


class DigitsNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(1024, 80)
        self.fc2 = nn.Linear(80, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        return self.fc2(F.relu(self.fc1(x)))


class MnistNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(5120, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 3, stride=1))
        x = F.relu(F.max_pool2d(self.conv2(x), 3, stride=1))
        return self.fc2(F.relu(self.fc1(x.reshape(-1, 5120))))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.has_shortcut = stride != 1 or inputs != outputs
        if self.has_shortcut:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut_bn(self.shortcut(x)) if self.has_shortcut else x
        return self.relu(y)


class CifarNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.block1 = Block(32, 32, 1)
        self.block2 = Block(32, 64, 2)
        self.block3 = Block(64, 128, 2)
        self.fc = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(x.mean((2, 3)))


# By the name in fedsparse.plan.zoo.PLANS; what the default choice of prunable layers needs on top.
MODULES = {"watch": WatchNet, "digits": DigitsNet, "mnist": MnistNet, "cifar10": CifarNet}
PRUNE = {"cifar10": ("conv1",)}


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, with running statistics that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, generator=generator)
    return module.eval()


def logits_of(module: nn.Module, samples: np.ndarray) -> np.ndarray:
    """What torch yields for a numpy array."""
    with torch.no_grad():
        return module(torch.from_numpy(samples)).numpy()


class Model(nn.Module):
    """Layers by name, and a forward function over them."""

    def __init__(
        self, forward: Callable[[nn.Module, torch.Tensor], torch.Tensor], **layers: nn.Module
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


@functools.cache
def zoo_model(name: str) -> tuple[nn.Module, Imported]:
    """A torch model of the zoo and its import, which takes seconds; change neither."""
    module = randomised(MODULES[name]())
    return module, from_torch(module, PLANS[name]().input_shape, name=name)


def predict(imported: Imported, samples: np.ndarray) -> np.ndarray:
    """What onnxruntime yields for the plan and the values of an import."""
    model = to_onnx(imported.plan, from_tensors(imported.plan, imported.values))
    return open_session(model.SerializeToString()).run(None, {"input": samples})[0]
