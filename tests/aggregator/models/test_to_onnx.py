import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch_zoo import logits_of, zoo_model

from aggregator.models.from_onnx import from_onnx
from aggregator.models.pruning import choose_prunable
from aggregator.models.session import open_session
from aggregator.models.to_onnx import to_onnx, to_parametric_onnx
from aggregator.models.to_torch import load_weights, to_torch
from aggregator.models.weights import from_tensors, tensors_by_name
from fedsparse.plan import (
    OPERATORS,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Linear,
    MaxPool,
    Mul,
    Plan,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Tanh,
    Upsample,
)
from fedsparse.plan.builder import PlanBuilder
from fedsparse.plan.zoo import PLANS, mnist_plan
from fedsparse.types import BoolArray, Weights


def random_weights(plan: Plan, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return Weights(
        prunable=0.2 * rng.standard_normal(plan.num_prunable, np.float32),
        dense=rng.uniform(0.5, 1.5, plan.num_dense).astype(np.float32),
    )


def random_mask(plan: Plan, density: float) -> BoolArray:
    return np.random.default_rng(1).random(plan.num_prunable) < density


@pytest.mark.parametrize("name", PLANS)
def test_a_masked_export_yields_the_logits_of_masked_torch_weights(name: str) -> None:
    module, imported = zoo_model(name)
    module, plan = copy.deepcopy(module), PLANS[name]()
    weights, mask = from_tensors(plan, imported.values), random_mask(plan, 0.1)
    model = to_onnx(plan, weights, mask)

    start = 0
    state = module.state_dict()
    for tensor in plan.prunable:
        kept = mask[start : start + tensor.size].reshape(tensor.shape)
        state[tensor.name] *= torch.from_numpy(kept)
        start += tensor.size
    samples = np.random.default_rng(2).standard_normal((3, *plan.input_shape), np.float32)
    (logits,) = open_session(model.SerializeToString()).run(None, {"input": samples})
    np.testing.assert_allclose(logits, logits_of(module, samples), atol=1e-5)


def every_operator() -> Plan:
    model = PlanBuilder("all", (2, 9, 8))
    pads = ((1, 0), (0, 2))
    model.add(Conv(out_channels=4, kernel=(2, 3), stride=(2, 1), pads=pads, bias=False))
    model.add(BatchNorm(eps=1e-3))
    short = model.add(Relu())
    model.add(MaxPool(kernel=(3, 3), stride=(1, 1), pads=((1, 1), (1, 1))))
    model.add(Add(), short, model.last)
    model.add(AvgPool(kernel=(2, 3), stride=(1, 2), pads=pads))
    model.conv("logits", 8, 1)  # the name of the graph's output, but not the last node
    model.add(Conv(out_channels=8, kernel=(2, 2), stride=(2, 2), pads=pads), name="input/output")
    model.add(GlobalAvgPool())
    model.add(Flatten())
    model.add(Linear(out_features=6, bias=False))
    model.add(Linear(out_features=3), name="conv/output")
    return model.build()


def every_other_operator() -> Plan:
    model = PlanBuilder("others", (4, 7, 6))
    model.conv("stem", 6, (3, 2), pad=1, dilation=(1, 2), groups=2)
    model.add(GroupNorm(groups=3, eps=1e-3))
    block = model.add(HardSwish())
    model.global_avg_pool()
    model.linear("gate", 6)
    gate = model.add(HardSigmoid())
    model.add(Mul(), gate, block)
    model.depthwise("depth", 3, stride=2, pad=1)
    model.add(LayerNorm(axes=2))
    model.add(Upsample(scale=(2, 3)))
    for operator in (
        LeakyRelu(slope=0.2), Silu(), Gelu(), Tanh(), Gelu(approximate=True), Relu6(), Sigmoid(),
        Dropout(p=0.3),
    ):  # fmt: skip
        model.add(operator)
    model.flatten("left")
    features = model.linear("right", 10)
    model.add(Concat(), "left", features, features)
    model.add(GroupNorm(groups=2), name="vector")
    model.add(LayerNorm(axes=1))
    model.linear("last", 3)
    return model.build()


@pytest.mark.parametrize("make", [every_operator, every_other_operator])
def test_every_operator_of_a_plan_is_exported_as_torch_computes_it(
    make: Callable[[], Plan],
) -> None:
    plan = make()
    weights = random_weights(plan)
    samples = np.random.default_rng(2).standard_normal((5, *plan.input_shape), np.float32)
    model = to_onnx(plan, weights).SerializeToString()
    (logits,) = open_session(model).run(None, {"input": samples})
    module = to_torch(plan)
    load_weights(module, plan, weights)
    wanted = module.eval().double()(torch.from_numpy(samples).double()).detach().numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)


def test_an_exported_plan_comes_back_the_same(tmp_path: Path) -> None:
    plan = every_other_operator()
    weights = random_weights(plan)
    onnx.save(to_onnx(plan, weights), tmp_path / "model.onnx")
    back = from_onnx(tmp_path / "model.onnx", name=plan.name)
    same = choose_prunable(back.plan, prune=("*",)).nodes
    wanted = choose_prunable(plan, prune=("*",)).nodes
    assert [node.operator for node in same] == [node.operator for node in wanted]
    assert [node.name for node in same] == [node.name for node in wanted]
    for name, value in tensors_by_name(plan, weights).items():
        np.testing.assert_array_equal(back.values[name], value)


def test_the_examples_use_every_operator() -> None:
    nodes = (*every_operator().nodes, *every_other_operator().nodes)
    assert {node.operator.kind for node in nodes} == set(OPERATORS)


def test_dropped_weights_are_zeros_whatever_their_value() -> None:
    plan = mnist_plan()
    weights = random_weights(plan)
    mask = random_mask(plan, 0.05)
    weights.prunable[~mask] = np.nan
    model = to_onnx(plan, weights, mask)
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    kept = sum(np.count_nonzero(stored[tensor.name]) for tensor in plan.prunable)
    assert kept == np.count_nonzero(mask)
    assert np.isnan(weights.prunable[~mask]).all()  # the caller's array is as it was


def test_the_file_names_plan_density_and_tensors_and_suits_old_runtimes() -> None:
    plan = mnist_plan()
    mask = np.zeros(plan.num_prunable, np.bool_)
    mask[: plan.num_prunable // 4] = True
    model = to_onnx(plan, random_weights(plan), mask)
    assert {item.key: item.value for item in model.metadata_props} == {
        "fedsparse.plan": plan.digest,
        "fedsparse.density": "0.25",
    }
    assert [item.name for item in model.graph.initializer] == [
        *(tensor.name for tensor in plan.prunable),
        *(tensor.name for tensor in plan.dense),
    ]
    assert model.ir_version <= 10
    assert [item.version for item in model.opset_import] == [17]


@pytest.mark.parametrize("batch", [1, 2, 33])
def test_the_batch_is_dynamic(batch: int) -> None:
    plan = mnist_plan()
    session = open_session(to_onnx(plan, random_weights(plan)).SerializeToString())
    samples = np.zeros((batch, 1, 28, 28), np.float32)
    assert session.run(None, {"input": samples})[0].shape == (batch, 10)


@pytest.mark.parametrize("name", PLANS)
def test_one_parametric_graph_yields_the_same_logits_for_any_weights(name: str) -> None:
    plan = PLANS[name]()
    session = open_session(to_parametric_onnx(plan).SerializeToString())
    samples = np.random.default_rng(2).standard_normal((2, *plan.input_shape), np.float32)
    for seed in (0, 1):
        weights = random_weights(plan, seed)
        fixed = open_session(to_onnx(plan, weights).SerializeToString())
        (wanted,) = fixed.run(None, {"input": samples})
        (got,) = session.run(None, {"input": samples, **tensors_by_name(plan, weights)})
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_vectors_of_the_wrong_length_are_refused() -> None:
    plan = mnist_plan()
    weights = random_weights(plan)
    with pytest.raises(ValueError, match="the plan has 261000 and 840"):
        to_onnx(plan, Weights(prunable=weights.prunable[1:], dense=weights.dense))
    with pytest.raises(ValueError, match="mask"):
        to_onnx(plan, weights, np.ones(3, np.bool_))
