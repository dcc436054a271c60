"""The models of the demo and of the benchmarks: on gateway and device alike, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fedsparse.plan import Add, GlobalAvgPool, Plan, Relu6
from fedsparse.plan.builder import PlanBuilder


def watch_plan() -> Plan:
    """A 1-D CNN for two seconds of a smartwatch: 6 channels, 100 samples; 7 exercises; 296 k."""
    model = PlanBuilder("watch", (6, 100))
    model.conv("conv1", 64, 9, pad=4)
    model.relu()
    model.max_pool(2)
    model.conv("conv2", 64, 9, pad=4)
    model.relu()
    model.max_pool(2)
    model.conv("conv3", 128, 5, stride=2, pad=2)
    model.relu()
    model.flatten()
    model.linear("fc1", 128)
    model.relu()
    model.linear("fc2", 7, prunable=False)
    return model.build()


def digits_plan() -> Plan:
    """A small CNN for 8x8 handwritten digits; 102 k parameters."""
    model = PlanBuilder("digits", (1, 8, 8))
    model.conv("conv1", 32, 3, pad=1, prunable=False)
    model.relu()
    model.conv("conv2", 64, 3, pad=1)
    model.relu()
    model.max_pool(2)
    model.flatten()
    model.linear("fc1", 80)
    model.relu()
    model.linear("fc2", 10, prunable=False)
    return model.build()


def mnist_plan() -> Plan:
    """MNISTNet of the FLASH reference, on logits: 262 k parameters, conv2 and fc1 are pruned."""
    model = PlanBuilder("mnist", (1, 28, 28))
    model.conv("conv1", 10, 5, prunable=False)
    model.max_pool(3, stride=1)
    model.relu()
    model.conv("conv2", 20, 5)
    model.max_pool(3, stride=1)
    model.relu()
    model.flatten()
    model.linear("fc1", 50)
    model.relu()
    model.linear("fc2", 10, prunable=False)
    return model.build()


def cifar_plan() -> Plan:
    """A ResNet of three blocks, width 32: 309 k parameters; every convolution is pruned."""
    model = PlanBuilder("cifar10", (3, 32, 32))
    model.conv("conv1", 32, 3, pad=1, bias=False)
    model.batch_norm("bn1")
    model.relu()
    _residual_block(model, "block1", 32, stride=1)
    _residual_block(model, "block2", 64, stride=2)
    _residual_block(model, "block3", 128, stride=2)
    model.add(GlobalAvgPool())
    model.linear("fc", 10, prunable=False)
    return model.build()


def resnet18_plan() -> Plan:
    """ResNet-18 as for CIFAR-10: a 3x3 stem, widths 64 to 512; 11.2 M parameters.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2015; deviation: the stem
    keeps the resolution, as is usual for images of 32x32, and has no max pooling.
    """
    model = PlanBuilder("resnet18", (3, 32, 32))
    model.conv("conv1", 64, 3, pad=1, bias=False)
    model.batch_norm("bn1")
    model.relu()
    for number, channels in enumerate((64, 128, 256, 512), start=1):
        _residual_block(model, f"layer{number}.0", channels, stride=1 if number == 1 else 2)
        _residual_block(model, f"layer{number}.1", channels, stride=1)
    model.add(GlobalAvgPool())
    model.linear("fc", 10, prunable=False)
    return model.build()


def _residual_block(model: PlanBuilder, name: str, channels: int, *, stride: int) -> None:
    """`relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))`; 1x1 convolution where shapes differ."""
    start = model.last
    model.conv(f"{name}.conv1", channels, 3, stride=stride, pad=1, bias=False)
    model.batch_norm(f"{name}.bn1")
    model.relu(f"{name}.relu")
    model.conv(f"{name}.conv2", channels, 3, pad=1, bias=False)
    long = model.batch_norm(f"{name}.bn2")
    short = start
    if stride != 1 or model.shapes[start][0] != channels:
        model.conv(f"{name}.shortcut", channels, 1, stride=stride, bias=False, source=start)
        short = model.batch_norm(f"{name}.shortcut_bn")
    model.add(Add(), long, short, name=f"{name}.add")
    model.relu(f"{name}.relu")


def dscnn_plan() -> Plan:
    """DS-CNN small, keyword spotting on 49 frames of 10 MFCCs; 12 classes, 23 k parameters.

    Source: Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017.
    """
    model = PlanBuilder("dscnn", (1, 49, 10))
    model.conv("conv1", 64, (10, 4), stride=2, pad=(5, 1), bias=False)
    model.batch_norm("bn1")
    model.relu()
    for number in range(1, 5):
        name = f"block{number}"
        model.depthwise(f"{name}.depth", 3, pad=1)
        model.batch_norm(f"{name}.depth_bn")
        model.relu(f"{name}.relu")
        model.conv(f"{name}.point", 64, 1, bias=False)
        model.batch_norm(f"{name}.point_bn")
        model.relu(f"{name}.relu")
    model.global_avg_pool()
    model.linear("fc", 12, prunable=False)
    return model.build()


def mobilenet_plan() -> Plan:
    """MobileNetV2 in small, for 3x32x32: 7 inverted residuals; 10 classes, 244 k parameters.

    Source: Sandler et al., "MobileNetV2", 2018; narrower, and without its first two strides.
    """
    model = PlanBuilder("mobilenet", (3, 32, 32))
    model.conv("conv1", 16, 3, pad=1, bias=False, prunable=False)
    model.batch_norm("bn1")
    model.add(Relu6())
    _inverted_residual(model, "block1", 16, expansion=1, stride=1)
    _inverted_residual(model, "block2", 24, expansion=6, stride=2)
    _inverted_residual(model, "block3", 24, expansion=6, stride=1)
    _inverted_residual(model, "block4", 40, expansion=6, stride=2)
    _inverted_residual(model, "block5", 40, expansion=6, stride=1)
    _inverted_residual(model, "block6", 96, expansion=6, stride=2)
    _inverted_residual(model, "block7", 96, expansion=6, stride=1)
    model.conv("head", 384, 1, bias=False)
    model.batch_norm("head_bn")
    model.add(Relu6())
    model.global_avg_pool()
    model.linear("fc", 10, prunable=False)
    return model.build()


def _inverted_residual(
    model: PlanBuilder, name: str, channels: int, *, expansion: int, stride: int
) -> None:
    """Widen, convolve every channel by itself, narrow without an activation; add what came in."""
    start = model.last
    wide = expansion * model.shapes[start][0]
    if expansion > 1:
        model.conv(f"{name}.expand", wide, 1, bias=False)
        model.batch_norm(f"{name}.expand_bn")
        model.add(Relu6(), name=f"{name}.relu6")
    model.depthwise(f"{name}.depth", 3, stride=stride, pad=1)
    model.batch_norm(f"{name}.depth_bn")
    model.add(Relu6(), name=f"{name}.relu6")
    model.conv(f"{name}.project", channels, 1, bias=False, prunable=expansion > 1)
    model.batch_norm(f"{name}.project_bn")
    if stride == 1 and model.shapes[start][0] == channels:
        model.add(Add(), start, model.last, name=f"{name}.add")


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "watch": watch_plan,
    "digits": digits_plan,
    "mnist": mnist_plan,
    "cifar10": cifar_plan,
    "dscnn": dscnn_plan,
    "mobilenet": mobilenet_plan,
}

# Too large for the tests that go through all others.
LARGE_PLANS: Final[dict[str, Callable[[], Plan]]] = {"resnet18": resnet18_plan}
