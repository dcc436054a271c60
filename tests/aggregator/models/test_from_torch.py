from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_zoo import MODULES, PRUNE, Model, logits_of, predict, zoo_model

from aggregator.models.from_torch import from_torch
from aggregator.models.pruning import choose_prunable
from fedsparse.errors import PlanError
from fedsparse.plan import AvgPool, BatchNorm, Conv, Loss
from fedsparse.plan.zoo import PLANS

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]


@pytest.mark.parametrize("name", PLANS)
def test_the_torch_model_is_the_plan_of_the_zoo_with_its_state_dict(name: str) -> None:
    module, imported = zoo_model(name)
    plan = PLANS[name]()
    assert choose_prunable(imported.plan, prune=PRUNE.get(name, ())).digest == plan.digest
    state = {key: value for key, value in module.state_dict().items() if value.ndim}
    assert imported.values.keys() == state.keys()
    for key, value in state.items():
        assert np.array_equal(imported.values[key], value.numpy())


@pytest.mark.parametrize("name", PLANS)
def test_the_exported_model_yields_the_logits_of_torch(name: str) -> None:
    module, imported = zoo_model(name)
    shape = imported.plan.input_shape
    samples = np.random.default_rng(1).standard_normal((5, *shape), np.float32)
    np.testing.assert_allclose(predict(imported, samples), logits_of(module, samples), atol=1e-5)


def test_the_module_is_left_as_it_was() -> None:
    module = MODULES["cifar10"]().double().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    from_torch(module, (3, 32, 32))
    assert all(layer.training for layer in module.modules())
    for key, value in module.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])


def test_batch_norm_keeps_its_momentum_and_epsilon() -> None:
    module = nn.Sequential(
        nn.Conv1d(2, 3, 3),
        nn.BatchNorm1d(3, eps=1e-3, momentum=0.25),
        nn.Flatten(),
        nn.Linear(6, 2),
    )
    node = from_torch(module, (2, 4)).plan.nodes[1]
    assert node.name == "1"
    assert node.operator == BatchNorm(eps=1e-3, momentum=0.25)


def views(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model.fc(model.conv(x).mean(-1).unsqueeze(-1).squeeze(-1).contiguous())


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.fc(m.conv(x).mean(2)),
        lambda m, x: m.fc(m.conv(x).mean(-1, keepdim=True).flatten(1)),
        lambda m, x: m.fc(F.adaptive_avg_pool1d(m.conv(x), 1).squeeze(-1)),
        lambda m, x: m.fc(F.adaptive_avg_pool1d(m.conv(x), 1).view(-1, 4)),
        lambda m, x: m.fc(F.avg_pool1d(m.conv(x), 8).reshape(len(x), -1)),
        views,
    ],
)
def test_every_way_to_pool_globally_gives_one_plan_and_the_same_logits(forward: Forward) -> None:
    module = Model(forward, conv=nn.Conv1d(2, 4, 3), fc=nn.Linear(4, 3))
    samples = np.random.default_rng(2).standard_normal((3, 2, 10), np.float32)
    imported = from_torch(module, (2, 10))
    assert {tensor.name for tensor in imported.plan.tensors} == set(module.state_dict())
    np.testing.assert_allclose(predict(imported, samples), logits_of(module, samples), atol=1e-6)


# torch warns that it copies the input
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(("kernel", "padding"), [(4, (1, 2)), (3, (1, 1)), (1, (0, 0))])
def test_same_padding_is_split_as_torch_splits_it(kernel: int, padding: tuple[int, int]) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, (kernel, 3), padding="same"), nn.Flatten(), nn.Linear(2 * 6 * 5, 2)
    )
    imported = from_torch(module, (1, 6, 5))  # compares the logits
    assert imported.plan.nodes[0].operator == Conv(
        out_channels=2, kernel=(kernel, 3), stride=(1, 1), pads=(padding, (1, 1))
    )


def test_pools_keep_stride_and_padding() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.AvgPool2d((3, 2), stride=1, padding=1),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    imported = from_torch(module, (1, 6, 5))
    assert imported.plan.nodes[1].operator == AvgPool(
        kernel=(3, 2), stride=(1, 1), pads=((1, 1), (1, 1))
    )


@pytest.mark.parametrize("softmax", [nn.Softmax(1), nn.LogSoftmax(-1)])
def test_a_last_softmax_is_dropped_with_a_note(softmax: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(5, 3), softmax)
    imported = from_torch(module, (5,))
    assert imported.plan.name == "Sequential"
    assert [node.name for node in imported.plan.nodes] == ["0"]
    assert "softmax is dropped" in imported.notes[0]


@pytest.mark.parametrize("loss", [Loss.MSE, Loss.BCE])
def test_a_softmax_belongs_to_classes(loss: Loss) -> None:
    module = nn.Sequential(nn.Linear(5, 3), nn.Softmax(1))
    with pytest.raises(PlanError, match=f"'1'.*does not go with the loss '{loss.value}'"):
        from_torch(module, (5,), loss=loss)


@pytest.mark.parametrize(
    ("loss", "kinds"),
    [
        (Loss.BCE, ["linear", "relu", "linear"]),
        (Loss.MSE, ["linear", "relu", "linear", "sigmoid"]),
        (Loss.CROSS_ENTROPY, ["linear", "relu", "linear", "sigmoid"]),
    ],
)
def test_a_last_sigmoid_belongs_to_binary_cross_entropy_alone(loss: Loss, kinds: list[str]) -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2), nn.Sigmoid())
    imported = from_torch(module, (5,), loss=loss)
    assert [node.operator.kind for node in imported.plan.nodes] == kinds
    assert imported.plan.loss is loss
    assert (imported.ending == "sigmoid") == (loss is Loss.BCE)


def test_a_layer_used_twice_without_weights_gets_two_nodes() -> None:
    relu = nn.ReLU()
    module = Model(
        lambda m, x: m.b(m.act(m.a(m.act(x)))), a=nn.Linear(5, 4), b=nn.Linear(4, 3), act=relu
    )
    imported = from_torch(module, (5,))
    assert [node.name for node in imported.plan.nodes] == ["act", "a", "act_1", "b"]


def test_what_the_output_does_not_need_is_left_out() -> None:
    def forward(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        model.unused(x)
        return model.fc(x)

    module = Model(forward, unused=nn.Linear(5, 9), fc=nn.Linear(5, 3))
    imported = from_torch(module, (5,))
    assert list(imported.values) == ["fc.weight", "fc.bias"]


def fc(forward: Forward = lambda m, x: m.fc(x), **layers: nn.Module) -> nn.Module:
    return Model(forward, **{"fc": nn.Linear(6, 3), **layers})


def frozen(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))


CONV_INPUT = (4, 6, 6)
REFUSED = {
    "operator": (lambda: fc(lambda m, x: F.elu(m.fc(x))), (6,), r"'elu' \(aten.elu.default\)"),
    "layer": (lambda: fc(lambda m, x: m.act(m.fc(x)), act=nn.Mish()), (6,), "'act'.*not supported"),
    "other bounds": (lambda: fc(lambda m, x: m.fc(x.clamp(-1, 1))), (6,), "'clamp'.*not supported"),
    "half of h-swish": (lambda: fc(lambda m, x: m.fc(F.relu6(x + 3))), (6,), "the constant 3"),
    "groups after pool": (
        lambda: fc(
            lambda m, x: m.fc(m.c(x.mean(2, keepdim=True)).flatten(1)),
            c=nn.Conv1d(6, 6, 1, groups=2),
        ),
        (6, 5),
        "'c'.*only a 1x1 convolution without groups",
    ),
    "whole channels": (
        lambda: frozen(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Dropout2d(0.3))),
        CONV_INPUT,
        "drops whole channels",
    ),
    "everything dropped": (lambda: fc(lambda m, x: m.fc(m.d(x)), d=nn.Dropout(1.0)), (6,), "p=1.0"),
    "always dropout": (
        lambda: fc(lambda m, x: m.fc(F.dropout(x, 0.3))),
        (6,),
        "drops in evaluation too",
    ),
    "no affine groups": (lambda: frozen(nn.GroupNorm(2, 4, affine=False)), CONV_INPUT, "affine"),
    "no affine layer": (
        lambda: frozen(nn.LayerNorm(6, elementwise_affine=False)),
        CONV_INPUT,
        "elementwise_affine",
    ),
    "bilinear": (
        lambda: frozen(nn.Upsample(scale_factor=2, mode="bilinear")),
        CONV_INPUT,
        "upsample_bilinear2d",
    ),
    "broken factor": (lambda: frozen(nn.Upsample(scale_factor=1.5)), CONV_INPUT, "whole factors"),
    "joined rows": (
        lambda: fc(lambda m, x: m.fc(torch.cat([x, x], 2).flatten(1))),
        (1, 3),
        "joins axis 2",
    ),
    "row gate": (
        lambda: fc(lambda m, x: m.fc((x * x.mean(2, keepdim=True).sigmoid()).flatten(1))),
        (2, 1, 3),
        "all spatial axes",
    ),
    "broadcast product": (
        lambda: fc(lambda m, x: m.fc((x * F.avg_pool2d(x, (1, 3))).flatten(1))),
        (1, 2, 3),
        "a single value a channel",
    ),
    "slice": (lambda: fc(lambda m, x: m.fc(x[:, 1:])), (7,), "slicing is not supported"),
    "ceil": (lambda: frozen(nn.MaxPool2d(4, ceil_mode=True)), CONV_INPUT, "'0'.*ceil_mode"),
    "dilated pool": (lambda: frozen(nn.MaxPool2d(2, dilation=2)), CONV_INPUT, "dilation"),
    "uncounted pads": (
        lambda: frozen(nn.AvgPool2d(3, padding=1, count_include_pad=False)),
        CONV_INPUT,
        "count_include_pad",
    ),
    "divisor": (lambda: frozen(nn.AvgPool2d(3, divisor_override=2)), CONV_INPUT, "divisor"),
    "adaptive": (lambda: frozen(nn.AdaptiveAvgPool2d(2)), CONV_INPUT, "output_size"),
    "no statistics": (
        lambda: frozen(nn.BatchNorm2d(4, track_running_stats=False)),
        CONV_INPUT,
        "track_running_stats",
    ),
    "no affine": (lambda: frozen(nn.BatchNorm2d(4, affine=False)), CONV_INPUT, "affine=True"),
    "no momentum": (lambda: frozen(nn.BatchNorm2d(4, momentum=None)), CONV_INPUT, "momentum"),
    "some axes": (lambda: fc(lambda m, x: m.fc(x.mean(2).mean(2))), (6, 5, 5), "all spatial axes"),
    "alpha": (lambda: fc(lambda m, x: m.fc(torch.add(x, x, alpha=2))), (6,), "alpha=2"),
    "constant": (lambda: fc(lambda m, x: m.fc(x + 1)), (6,), "the constant 1"),
    "parameter as data": (
        lambda: fc(lambda m, x: m.fc(x + m.fc.weight[0])),
        (6,),
        r"'select' \(aten.select.int\)",
    ),
    "computed weight": (
        lambda: fc(lambda m, x: F.linear(x, m.fc.weight.relu())),
        (6,),
        "'fc.weight' as data",
    ),
    "shared weight": (
        lambda: fc(lambda m, x: m.fc(m.a(x) + F.relu(m.a(x))), a=nn.Linear(6, 6)),
        (6,),
        "weight 'a.weight' is that of node 'a'",
    ),
    "transposed": (lambda: fc(lambda m, x: m.fc(x.flatten(0, 1))), (2, 6), "mixes samples"),
    "reshaped": (
        lambda: fc(lambda m, x: m.fc(x.view(3, 2, 2, 6).flatten(1)[:, :6])),
        (4, 6),
        "flattening",
    ),
    "not flat": (lambda: fc(), (2, 6), "flat input"),
    "softmax inside": (lambda: fc(lambda m, x: m.fc(x.softmax(1))), (6,), "very end"),
    "two outputs": (lambda: fc(lambda m, x: (m.fc(x), x)), (6,), "must yield one tensor"),
    "not finite": (
        lambda: fc(fc=nn.Linear(6, 3).apply(lambda m: m.weight.data.fill_(torch.nan))),
        (6,),
        "not finite",
    ),
    "not logits": (lambda: fc(lambda m, x: m.fc(x).view(-1, 3, 1)), (2, 6), "flat input"),
    "feature map": (lambda: nn.Conv1d(2, 9, 3), (2, 6), r"logits, it yields \(9, 4\)"),
    "nothing to train": (lambda: fc(lambda m, x: x.relu()), (6,), "no prunable tensor"),
    "branches on values": (
        lambda: fc(lambda m, x: m.fc(x) if x.sum() > 0 else m.fc(-x)),
        (6,),
        "cannot be traced",
    ),
    "wrong input": (lambda: fc(), (7,), r"does not accept samples of shape \(7,\)"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_planned_is_refused_with_its_reason(case: str) -> None:
    make, shape, reason = REFUSED[case]
    module = make()
    if any(isinstance(layer, nn.modules.lazy.LazyModuleMixin) for layer in module.modules()):
        module.eval()(torch.zeros((2, *shape)))
    with pytest.raises(PlanError, match=reason):
        from_torch(module, shape, name="model")


def test_all_problems_are_listed_at_once_with_what_is_supported() -> None:
    module = fc(lambda m, x: F.elu(m.fc(torch.cos(x))))
    with pytest.raises(PlanError) as caught:
        from_torch(module, (6,), name="mine")
    lines = str(caught.value).splitlines()
    assert lines[0] == "mine: 2 problems"
    assert "'cos'" in lines[1]
    assert "'elu'" in lines[2]
    assert "group- and layer-norm" in lines[3]


def test_an_operation_that_changes_a_value_read_again_is_followed() -> None:
    def forward(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = model.a(x)
        z = F.relu_(y)
        return model.fc(y + z)  # y is z by now

    module = Model(forward, a=nn.Linear(4, 6), fc=nn.Linear(6, 3))
    samples = np.random.default_rng(3).standard_normal((3, 4), np.float32)
    imported = from_torch(module, (4,))
    np.testing.assert_allclose(predict(imported, samples), logits_of(module, samples), atol=1e-6)


def test_the_self_test_refuses_a_plan_that_means_something_else() -> None:
    def forward(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = model.a(x)
        view = y.view(-1, 6)
        F.relu_(view)  # changes y through its view
        return model.fc(y)

    module = Model(forward, a=nn.Linear(4, 6), fc=nn.Linear(6, 3))
    with pytest.raises(PlanError, match="model: the imported plan does not yield"):
        from_torch(module, (4,), name="model")
