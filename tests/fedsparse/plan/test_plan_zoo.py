import pytest

from fedsparse.plan import Plan
from fedsparse.plan.zoo import PLANS, cifar_plan, digits_plan, mnist_plan, resnet18_plan, watch_plan


@pytest.mark.parametrize(
    ("name", "input_shape", "classes", "trained"),
    [
        ("watch", (6, 100), 7, 295_559),
        ("digits", (1, 8, 8), 10, 101_626),
        ("mnist", (1, 28, 28), 10, 261_840),
        ("cifar10", (3, 32, 32), 10, 308_650),
        ("dscnn", (1, 49, 10), 12, 23_180),
        ("mobilenet", (3, 32, 32), 10, 244_170),
    ],
)
def test_the_models_are_as_documented(
    name: str, input_shape: tuple[int, ...], classes: int, trained: int
) -> None:
    plan = PLANS[name]()
    assert (plan.name, plan.input_shape, plan.classes) == (name, input_shape, classes)
    assert sum(tensor.size for tensor in plan.tensors if tensor.role.is_trained) == trained


def test_resnet18_has_the_parameters_of_the_paper_with_ten_classes() -> None:
    plan = resnet18_plan()
    # 11,689,512 for 1000 classes and a 7x7 stem, less 990 classes, less the larger stem.
    trained = 11_689_512 - 990 * 513 - 64 * 3 * (49 - 9)
    assert sum(tensor.size for tensor in plan.tensors if tensor.role.is_trained) == trained
    assert len([one for one in plan.nodes if one.operator.kind == "conv"]) == 1 + 16 + 3


def pruned(plan: Plan) -> list[str]:
    return [tensor.name.removesuffix(".weight") for tensor in plan.prunable]


def test_the_pruned_layers_are_those_of_the_paper() -> None:
    assert pruned(mnist_plan()) == ["conv2", "fc1"]
    convolutions = [node.name for node in cifar_plan().nodes if node.operator.kind == "conv"]
    assert pruned(cifar_plan()) == convolutions


def test_the_classifier_and_tiny_layers_stay_dense() -> None:
    assert pruned(watch_plan()) == ["conv1", "conv2", "conv3", "fc1"]
    assert pruned(digits_plan()) == ["conv2", "fc1"]


@pytest.mark.parametrize("name", ["dscnn", "mobilenet"])
def test_depthwise_convolutions_stay_dense_and_pointwise_ones_are_pruned(name: str) -> None:
    layers = {tensor.name: tensor for tensor in PLANS[name]().tensors if len(tensor.shape) == 4}
    depthwise = {key for key in layers if key.endswith(".depth.weight")}
    assert len(depthwise) == (4 if name == "dscnn" else 7)
    assert all(layers[key].shape[1] == 1 and not layers[key].prunable for key in depthwise)
    pointwise = [one for one in layers.values() if one.shape[2:] == (1, 1) and one.size > 1_000]
    assert pointwise
    assert all(tensor.prunable for tensor in pointwise)


def test_the_first_convolution_of_dscnn_halves_time_and_frequency() -> None:
    plan = PLANS["dscnn"]()
    assert plan.shapes["conv1"] == plan.shapes["block4.point"] == (64, 25, 5)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_file_gives_back_the_plan(name: str) -> None:
    plan = PLANS[name]()
    assert Plan.from_json(plan.to_json()).digest == plan.digest


def test_a_residual_block_adds_its_own_input() -> None:
    nodes = {node.name: node for node in cifar_plan().nodes}
    assert nodes["block1.add"].inputs == ("block1.bn2", "relu")
    assert nodes["block2.add"].inputs == ("block2.bn2", "block2.shortcut_bn")
    assert nodes["block2.shortcut"].inputs == nodes["block2.conv1"].inputs
