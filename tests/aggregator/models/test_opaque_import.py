"""Models that no plan expresses: imported as training graphs, trained by the graph engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_models import MODULES, Recurrent, Transformer
from typer.testing import CliRunner

from aggregator.models.graph_file import load_graph
from aggregator.models.importing import import_model
from aggregator.models.opaque import from_module
from aggregator.models.weights import from_tensors
from edge_client.runtime.graph import GraphEngine
from edge_client.runtime.micro_batches import micro_batches
from edge_client.runtime.sparse import SparseEngine
from fedsparse.errors import ConfigError, EngineError, PlanError
from fedsparse.plan import Loss, Plan, Role
from fedsparse.plan.training_graph import TrainingGraph
from fedsparse.sparsity.initial import initial_weights
from fedsparse.sparsity.masks import random_mask
from fedsparse.types import Weights
from tools.cli import app

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.fc = nn.Linear(24, 4)

    def forward(self, x):
        return self.fc(self.gru(x.transpose(1, 2))[0][:, -1])
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return f"{path}:Net"


def test_a_recurrent_model_imports_as_a_graph_and_says_what_was_missing(source: str) -> None:
    imported = import_model(source, input_shape=(3, 6))
    assert imported.graph is not None
    assert imported.plan.graph == imported.graph.digest
    assert any("gru" in note and "onnxruntime" in note for note in imported.notes)
    assert [t.name for t in imported.plan.prunable] == ["gru.weight_hh_l0"]
    assert Plan.from_json(imported.plan.to_json()) == imported.plan
    with pytest.raises(PlanError, match="gru"):
        import_model(source, input_shape=(3, 6), graph=False)


PLAIN = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv1d(3, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU(), nn.Flatten(),
        nn.Linear(96, 20), nn.ReLU(), nn.Linear(20, 4),
    )
"""


def test_a_plan_of_operators_may_have_a_graph_and_both_engines_train_it_alike(
    tmp_path: Path,
) -> None:
    (tmp_path / "net.py").write_text(PLAIN)
    output = tmp_path / "net.json"
    arguments = ["model", "import", f"{tmp_path}/net.py:net", "--input", "3,6", "-o", str(output)]
    done = CliRunner().invoke(app, [*arguments, "--with-graph"])
    assert done.exit_code == 0, done.output
    plan, graph = (
        Plan.from_json(output.read_bytes()),
        load_graph(output, Plan.from_json(output.read_bytes())),
    )
    assert not plan.is_opaque
    assert graph is not None
    rng = np.random.default_rng(0)
    kept = [tensor.size // 3 for tensor in plan.prunable]
    mask = random_mask(plan, kept, rng)
    weights = initial_weights(plan, kept, rng)
    weights = Weights(prunable=weights.prunable[mask], dense=weights.dense)
    engines = (
        SparseEngine(plan, mask, weights, batch_size=9, momentum=0.9),
        GraphEngine(plan, mask, weights, graph=graph, batch_size=9, momentum=0.9),
    )
    for _ in range(4):
        samples = rng.standard_normal((9, 3, 6), dtype=np.float32)
        labels = rng.integers(0, 4, 9)
        losses = [engine.train_step(samples, labels, learning_rate=0.1) for engine in engines]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    native, graphed = (engine.weights() for engine in engines)
    np.testing.assert_allclose(native.prunable, graphed.prunable, 1e-3, 1e-4)


def test_the_command_writes_the_graph_beside_the_plan(source: str, tmp_path: Path) -> None:
    output = tmp_path / "net.json"
    arguments = ["model", "import", source, "--input", "3,6", "-o", str(output)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    plan = Plan.from_json(output.read_bytes())
    graph = TrainingGraph.from_bytes(output.with_suffix(".graph").read_bytes())
    assert plan.graph == graph.digest
    refused = CliRunner().invoke(app, [*arguments, "--no-graph"])
    assert refused.exit_code == 2


def test_an_opaque_model_learns_under_a_mask_as_torch_does() -> None:
    """Ten masked steps of a GRU, against torch in float64: 1e-5 of what the weights moved."""
    torch.manual_seed(0)
    module = Recurrent()
    imported = from_module(
        module, MODULES[Recurrent], name="gru", loss=Loss.CROSS_ENTROPY, prune=["gru.*"]
    )
    plan, rng = imported.plan, np.random.default_rng(0)
    whole = from_tensors(plan, imported.values)
    mask = rng.random(plan.num_prunable) < 0.3
    start = Weights(prunable=whole.prunable[mask], dense=whole.dense)
    engine = GraphEngine(
        plan, mask, start, graph=imported.graph.to_bytes(), batch_size=8, momentum=0.9
    )
    exact = Recurrent().double()
    exact.load_state_dict(module.state_dict())
    masks, first = {}, 0
    for tensor in plan.prunable:
        part = torch.from_numpy(mask[first : first + tensor.size]).reshape(tensor.shape)
        masks[tensor.name], first = part, first + tensor.size
    parameters = dict(exact.named_parameters())
    for name, part in masks.items():
        parameters[name].data *= part
    optimizer = torch.optim.SGD(exact.parameters(), lr=0.1, momentum=0.9)
    for _ in range(10):
        samples = rng.standard_normal((8, *plan.input_shape), dtype=np.float32)
        labels = rng.integers(0, 4, 8)
        loss = engine.train_step(samples, labels, learning_rate=0.1)
        optimizer.zero_grad()
        wanted = torch.nn.functional.cross_entropy(
            exact(torch.from_numpy(samples).double()), torch.from_numpy(labels)
        )
        wanted.backward()
        for name, part in masks.items():
            parameters[name].grad *= part
        optimizer.step()
        assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    state = {name: value.detach().numpy() for name, value in parameters.items()}
    expected = np.concatenate([state[t.name].ravel() for t in plan.prunable])[mask]
    moved = np.linalg.norm(expected - start.prunable)
    assert np.linalg.norm(engine.weights().prunable - expected) < 1e-5 * moved


def test_a_transformer_starts_from_drawn_weights_too() -> None:
    imported = from_module(
        Transformer(), MODULES[Transformer], name="tokens", loss=Loss.CROSS_ENTROPY,
        prune=["encoder.linear1"],
    )  # fmt: skip
    plan, rng = imported.plan, np.random.default_rng(1)
    roles = {tensor.name: tensor.role for tensor in plan.tensors}
    assert roles["encoder.norm1.weight"] is Role.SCALE
    assert roles["embedding.weight"] is roles["position"] is Role.WEIGHT
    counts = [plan.kept(0.5)]
    mask = random_mask(plan, counts, rng)
    drawn = initial_weights(plan, counts, rng)
    weights = Weights(prunable=drawn.prunable[mask], dense=drawn.dense)
    engine = GraphEngine(plan, mask, weights, graph=imported.graph, batch_size=4)
    samples = rng.integers(0, 20, (4, 7)).astype(np.float32)
    labels = rng.integers(0, 3, 4)
    losses = [engine.train_step(samples, labels, learning_rate=0.05) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert micro_batches(plan, 4) == (4, 2, 1)


def test_the_sparse_engine_and_another_graph_refuse_an_opaque_plan() -> None:
    imported = from_module(
        Recurrent(), MODULES[Recurrent], name="gru", loss=Loss.CROSS_ENTROPY, prune=["gru.*"]
    )
    plan = imported.plan
    mask = np.ones(plan.num_prunable, np.bool_)
    weights = from_tensors(plan, imported.values)
    with pytest.raises(EngineError, match="graph"):
        SparseEngine(plan, mask, weights, batch_size=2)
    other = from_module(Recurrent(), MODULES[Recurrent], name="gru", loss=Loss.MSE, prune=["gru.*"])
    with pytest.raises(EngineError, match="ask for it again"):
        GraphEngine(plan, mask, weights, graph=other.graph, batch_size=2)


def test_patterns_choose_parameters_and_wrong_ones_are_refused() -> None:
    def chosen(**patterns: list[str]) -> list[str]:
        imported = from_module(
            Recurrent(), MODULES[Recurrent], name="gru", loss=Loss.CROSS_ENTROPY, **patterns
        )
        return [tensor.name for tensor in imported.plan.prunable]

    assert chosen(prune=["gru", "fc"], dense=["*_ih_l0"]) == ["gru.weight_hh_l0", "fc.weight"]
    with pytest.raises(ConfigError, match="--prune 'conv' matches no parameter"):
        chosen(prune=["conv"])
    with pytest.raises(PlanError, match="left to prune"):
        chosen()


@pytest.mark.parametrize(
    "change",
    [
        {"graph": "abc"}, {"graph": "Z" * 64}, {"outputs": 0}, {"outputs": True},
        {"normalises": 1}, {"parameters": 3}, {"parameters": [["w", [2, 0], "weight", True, 2]]},
        {"parameters": [["w", [2, 2], "weight", True, 0]]},
        {"parameters": [["w", [2, 2], "bias", True, 2]]},
        {"parameters": [["w", [2, 2], "none", False, 2]]},
        {"parameters": [["w", [2, 2], "weight", True, 2]] * 2}, {"surplus": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_opaque_plan_is_refused(change: dict[str, object]) -> None:
    node = {
        "name": "model", "op": "graph", "inputs": ["input"], "outputs": 2, "normalises": False,
        "graph": "a" * 64, "parameters": [["w", [2, 2], "weight", True, 2]],
    }  # fmt: skip
    document = {
        "format": "fedsparse.plan", "version": 2, "name": "m", "input": [2],
        "loss": "cross_entropy", "nodes": [node],
    }  # fmt: skip
    Plan.from_json(json.dumps(document))
    with pytest.raises(PlanError):
        Plan.from_json(json.dumps({**document, "nodes": [node | change]}))


@pytest.mark.parametrize(
    ("ending", "loss", "is_refused"),
    [("softmax(1)", Loss.CROSS_ENTROPY, True), ("log_softmax(1)", Loss.CROSS_ENTROPY, True),
     ("sigmoid()", Loss.BCE, True), ("sigmoid()", Loss.MSE, False)],
)  # fmt: skip
def test_an_ending_that_the_loss_has_already_is_refused(
    tmp_path: Path, ending: str, loss: Loss, is_refused: bool
) -> None:
    path = tmp_path / "net.py"
    path.write_text(SOURCE.replace("[:, -1])", f"[:, -1]).{ending}"))
    if not is_refused:
        assert import_model(f"{path}:Net", input_shape=(3, 6), loss=loss).plan.graph
        return
    with pytest.raises(PlanError, match=r"gru.*nor can it be a training graph: it ends in"):
        import_model(f"{path}:Net", input_shape=(3, 6), loss=loss)


def test_a_graph_stands_alone_in_its_plan() -> None:
    node = {
        "name": "model", "op": "graph", "inputs": ["input"], "outputs": 2, "normalises": False,
        "graph": "a" * 64, "parameters": [["w", [2, 2], "weight", True, 2]],
    }  # fmt: skip
    relu = {"name": "r", "op": "relu", "inputs": ["model"]}
    document = {
        "format": "fedsparse.plan", "version": 2, "name": "m", "input": [2],
        "loss": "cross_entropy", "nodes": [node, relu],
    }  # fmt: skip
    with pytest.raises(PlanError, match="that one node and no other"):
        Plan.from_json(json.dumps(document))


def test_a_frozen_layer_is_no_matter_for_a_plan_but_for_a_graph(tmp_path: Path) -> None:
    source = SOURCE.replace("nn.GRU(3, 24, batch_first=True)", "nn.Linear(6, 200)")
    source = source.replace("nn.Linear(24, 4)", "nn.Linear(200, 4)")
    source = source.replace("self.gru(x.transpose(1, 2))[0][:, -1]", "self.gru(x)")
    frozen = source.replace(
        "    def forward", "        self.fc.requires_grad_(False)\n    def forward"
    )
    (tmp_path / "net.py").write_text(frozen)
    with pytest.raises(PlanError, match=r"'fc\.weight' is frozen .* training graph"):
        import_model(f"{tmp_path}/net.py:Net", input_shape=(6,), graph=False)
    imported = import_model(f"{tmp_path}/net.py:Net", input_shape=(6,))
    assert [tensor.name for tensor in imported.plan.tensors] == ["gru.weight", "gru.bias"]
