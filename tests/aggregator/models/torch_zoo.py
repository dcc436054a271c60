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


class Separable(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.depth_bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.point = nn.Conv2d(channels, channels, 1, bias=False)
        self.point_bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.depth_bn(self.depth(x)))
        return self.relu(self.point_bn(self.point(x)))


class KeywordNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, (10, 4), stride=(2, 2), padding=(5, 1), bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for number in range(1, 5):
            setattr(self, f"block{number}", Separable(64))
        self.fc = nn.Linear(64, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.block4(self.block3(self.block2(self.block1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.widens = expansion > 1
        if self.widens:
            self.expand = nn.Conv2d(inputs, wide, 1, bias=False)
            self.expand_bn = nn.BatchNorm2d(wide)
        self.relu6 = nn.ReLU6(inplace=True)
        self.depth = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.depth_bn = nn.BatchNorm2d(wide)
        self.project = nn.Conv2d(wide, outputs, 1, bias=False)
        self.project_bn = nn.BatchNorm2d(outputs)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu6(self.expand_bn(self.expand(x))) if self.widens else x
        y = self.relu6(self.depth_bn(self.depth(y)))
        y = self.project_bn(self.project(y))
        return x + y if self.is_residual else y


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs, shapes = 16, [(16, 1, 1), (24, 6, 2), (24, 6, 1), (40, 6, 2), (40, 6, 1)]
        for number, (outputs, expansion, stride) in enumerate([*shapes, (96, 6, 2), (96, 6, 1)], 1):
            setattr(self, f"block{number}", InvertedResidual(inputs, outputs, expansion, stride))
            inputs = outputs
        self.head = nn.Conv2d(96, 384, 1, bias=False)
        self.head_bn = nn.BatchNorm2d(384)
        self.fc = nn.Linear(384, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.bn1(self.conv1(x)))
        for number in range(1, 8):
            x = getattr(self, f"block{number}")(x)
        x = F.relu6(self.head_bn(self.head(x)))
        return self.fc(x.mean([2, 3]))


class SqueezeExcite(nn.Module):
    """As torchvision writes it."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale(self.fc2(self.activation(self.fc1(self.pool(x))))) * x


class MobileNetV3Block(nn.Module):
    """Batch-norm, hard-swish, squeeze and excite, dropout before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.block = nn.Sequential(
            nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish(),
            nn.Conv2d(24, 24, 5, padding=4, dilation=2, groups=24, bias=False),
            nn.BatchNorm2d(24), nn.Hardswish(),
            SqueezeExcite(24, 8),
            nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(8, 16), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(16, 4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.classifier((x + self.block(x)).mean((2, 3)))


# By the name in fedsparse.plan.zoo.PLANS; what the default choice of prunable layers needs on top.
MODULES = {
    "watch": WatchNet,
    "digits": DigitsNet,
    "mnist": MnistNet,
    "cifar10": CifarNet,
    "dscnn": KeywordNet,
    "mobilenet": MobileNet,
}
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
