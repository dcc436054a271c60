"""Training graphs: of any module, equal to torch, in standard operators, small."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from graph_models import MODULES, Causal, Normed, Recurrent, Transformer
from onnx import numpy_helper
from torch import nn
from torch_zoo import Model

from aggregator.models.graph import selftest
from aggregator.models.graph.selftest import check_graph, plausible_samples
from aggregator.models.graph.trace import subject_of
from aggregator.models.session import open_session
from aggregator.models.to_torch import loss_function
from aggregator.models.training_graph import export_graph, plan_graph
from fedsparse.errors import EngineError, PlanError
from fedsparse.plan import Loss
from fedsparse.plan.training_graph import TrainingGraph, bytes_at
from fedsparse.plan.zoo import PLANS


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return kind()


def matrices(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if p.dim() > 1 and p.requires_grad]


@pytest.mark.parametrize("kind", MODULES, ids=lambda kind: kind.__name__)
def test_a_module_exports_and_its_graph_equals_torch(kind: type[nn.Module]) -> None:
    module = made(kind)
    # The export tests itself on four batch sizes, and raises where the graph differs from torch.
    graph = export_graph(module, MODULES[kind], Loss.CROSS_ENTROPY, prunable=matrices(module))
    for data in (graph.training, graph.inference):
        model = onnx.load_model_from_string(data)
        assert {node.domain for node in model.graph.node} == {""}
        assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    assert len(graph.to_bytes()) < 12_000


@pytest.mark.parametrize(
    ("name", "loss"),
    [("mnist", Loss.CROSS_ENTROPY), ("cifar10", Loss.CROSS_ENTROPY), ("watch", Loss.MSE),
     ("watch", Loss.BCE)],
)  # fmt: skip
def test_plans_export_with_their_loss(name: str, loss: Loss) -> None:
    plan = dataclasses.replace(PLANS[name](), loss=loss)
    graph = plan_graph(plan)
    assert set(graph.tensors) == {tensor.name for tensor in plan.tensors}
    assert graph.prunable == tuple(tensor.name for tensor in plan.prunable)


def test_the_training_graph_moves_running_statistics_as_torch_does() -> None:
    """The trap: a batch-norm exported as in inference is silently wrong by a third."""
    module = made(Normed)
    graph = export_graph(module, MODULES[Normed], Loss.CROSS_ENTROPY, prunable=["fc.weight"])
    samples = torch.randn(9, *MODULES[Normed], generator=torch.Generator().manual_seed(3)) * 2 + 1
    labels = torch.arange(9) % 6
    state = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    feed = {name: state[name] for name in graph.tensors}
    feed |= {"samples": samples.numpy(), "targets": labels.numpy()}
    feed["kept:fc.weight"] = np.arange(36, dtype=np.int32)
    names = ["loss", "new:bn.running_var", "new:plain.running_mean", "gradient:fc.weight"]
    loss, var, mean, gradient = open_session(graph.training).run(names, feed)
    expected = nn.functional.cross_entropy(module.train()(samples), labels)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    np.testing.assert_allclose(var, module.bn.running_var.numpy(), rtol=1e-5)
    np.testing.assert_allclose(mean, module.plain.running_mean.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient, module.fc.weight.grad.numpy().ravel(), 1e-4, 1e-6)


def test_shared_frozen_and_constant_tensors_come_once_or_lie_in_the_file() -> None:
    graph = export_graph(made(Normed), MODULES[Normed], Loss.CROSS_ENTROPY, prunable=["fc.weight"])
    assert len(set(graph.tensors)) == len(graph.tensors)
    assert not {"frozen", "scale"}.intersection(graph.tensors)
    constants = onnx.load_model_from_string(graph.training).graph.initializer
    values = [numpy_helper.to_array(constant) for constant in constants]
    assert any(value.shape == (6,) and np.allclose(value, 0.3) for value in values)


def test_dropout_reads_numbers_that_are_given() -> None:
    module = made(Transformer)
    graph = export_graph(module, MODULES[Transformer], Loss.CROSS_ENTROPY, prunable=[])
    assert len(graph.draws) == 4
    kinds = {node.op_type for node in onnx.load_model_from_string(graph.training).graph.node}
    assert not any(kind.startswith("Random") or kind == "Dropout" for kind in kinds)
    feed = {name: module.state_dict()[name].numpy() for name in graph.tensors}
    feed |= {"samples": np.ones((4, 7), np.float32), "targets": np.zeros(4, np.int64)}
    losses = []
    for level in (0.0, 0.05, 0.5):  # below 0.1 everything is dropped, from there on nothing
        draws = {f"draw:{i}": np.full((4, n), level, np.float32) for i, n in enumerate(graph.draws)}
        losses.append(float(open_session(graph.training).run(["loss"], feed | draws)[0]))
    assert losses[0] == losses[1] != losses[2]


def test_a_batch_norm_over_vectors_needs_two_samples() -> None:
    graph = export_graph(made(Causal), MODULES[Causal], Loss.CROSS_ENTROPY, prunable=[])
    assert graph.least_batch == 2
    assert plan_graph(PLANS["watch"]()).least_batch == 1


def test_the_same_module_gives_the_same_file() -> None:
    first, again = (
        export_graph(made(Recurrent), MODULES[Recurrent], Loss.CROSS_ENTROPY, prunable=[])
        for _ in range(2)
    )
    assert first.digest == again.digest


def test_the_module_is_left_as_it_was() -> None:
    module = made(Normed)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.eval()
    export_graph(module, MODULES[Normed], Loss.CROSS_ENTROPY, prunable=["fc.weight"])
    assert not module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_what_has_no_standard_operators_is_refused_by_name() -> None:
    module = Model(lambda m, x: m.fc(torch.linalg.qr(m.a(x))[0].flatten(1)), a=nn.Linear(4, 4),
                   fc=nn.Linear(16, 3))  # fmt: skip
    with pytest.raises(PlanError, match=r"Model: .*linalg_qr"):
        export_graph(module, (4, 4), Loss.CROSS_ENTROPY, prunable=["fc.weight"])


def test_random_numbers_other_than_dropouts_are_refused() -> None:
    module = Model(lambda m, x: m.fc(x + torch.randn_like(x)), fc=nn.Linear(4, 3))
    with pytest.raises(PlanError, match=r"aten\.randn"):
        export_graph(module, (4,), Loss.CROSS_ENTROPY, prunable=["fc.weight"])


def test_a_branch_on_values_is_refused() -> None:
    module = Model(lambda m, x: m.fc(x if x.sum() > 0 else -x), fc=nn.Linear(4, 3))
    with pytest.raises(PlanError, match="must not branch on the values"):
        export_graph(module, (4,), Loss.CROSS_ENTROPY, prunable=["fc.weight"])


def test_a_forward_for_one_batch_size_is_refused() -> None:
    module = Model(lambda m, x: m.fc(x) * (2 if x.shape[0] == 6 else 1), fc=nn.Linear(4, 3))
    with pytest.raises(PlanError, match="holds for a batch of 6 alone"):
        export_graph(module, (4,), Loss.CROSS_ENTROPY, prunable=["fc.weight"])


def test_a_forward_that_depends_on_the_batch_size_fails_the_self_test() -> None:
    module = Model(lambda m, x: m.fc(x) * (2 if x.shape[0] > 4 else 1), fc=nn.Linear(4, 3))
    with pytest.raises(PlanError, match=r"differs from torch in loss .*batch of 1"):
        export_graph(module, (4,), Loss.CROSS_ENTROPY, prunable=["fc.weight"])


def test_a_cumulative_average_is_refused() -> None:
    module = Model(lambda m, x: m.fc(m.bn(x)), bn=nn.BatchNorm1d(4, momentum=None),
                   fc=nn.Linear(4, 3))  # fmt: skip
    with pytest.raises(PlanError, match="'bn': a cumulative average"):
        export_graph(module, (4,), Loss.CROSS_ENTROPY, prunable=["fc.weight"])


def test_only_trained_parameters_can_be_pruned() -> None:
    with pytest.raises(PlanError, match="'frozen' cannot be pruned"):
        export_graph(made(Normed), MODULES[Normed], Loss.CROSS_ENTROPY, prunable=["frozen"])


def test_a_graph_with_a_wrong_gradient_fails_the_self_test() -> None:
    module = Model(lambda m, x: m.fc(torch.relu(m.a(x))), a=nn.Linear(5, 8), fc=nn.Linear(8, 3))
    graph = export_graph(module, (5,), Loss.CROSS_ENTROPY, prunable=["fc.weight"])
    model = onnx.load_model_from_string(graph.training)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Abs"
    wrong = dataclasses.replace(graph, training=model.SerializeToString())
    samples = plausible_samples(module, (5,), selftest.SAMPLES)
    exact, single = (subject_of(module, samples, kind) for kind in (torch.float64, torch.float32))
    with pytest.raises(PlanError, match="differs from torch in"):
        check_graph(
            wrong, exact, single, loss_function(Loss.CROSS_ENTROPY), Loss.CROSS_ENTROPY, samples
        )


def test_a_file_is_read_as_it_was_written_and_damage_is_noticed() -> None:
    graph = plan_graph(PLANS["digits"]())
    data = graph.to_bytes()
    assert TrainingGraph.from_bytes(data) == graph
    assert bytes_at(graph.live_bytes, 32) > 2 * bytes_at(graph.live_bytes, 8) > 0
    header, _, body = data.partition(b"\n")
    for damaged in (
        b"", header, data[:-1], data + b"x", b"{}\n" + body,
        data.replace(b'"version":1', b'"version":9'),
        data.replace(b'"draws":[]', b'"draws":[-1]'), header + b"\n" + body[::-1],
        data.replace(b'"sizes":[[', b'"sizes":[[9'), b"[" * 100_000 + b"\n",
    ):  # fmt: skip
        with pytest.raises(EngineError):
            TrainingGraph.from_bytes(damaged)
