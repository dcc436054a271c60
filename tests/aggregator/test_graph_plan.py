"""A job whose plan is a training graph: without the file beside it the job does not start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from job_world import small_job
from torch import nn

from aggregator.evaluate import Evaluator
from aggregator.models.assembly import Imported
from aggregator.models.graph_file import graph_to_onnx, load_graph
from aggregator.models.opaque import from_module
from aggregator.models.session import open_session, run
from aggregator.models.weights import from_tensors
from aggregator.tasks import Round, plan_task
from fedsparse.errors import ConfigError
from fedsparse.plan import INPUT, Loss
from fedsparse.wire.headers import split_parts
from fedsparse.wire.messages import Stage


def imported() -> tuple[nn.Module, Imported]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 200), nn.Mish(), nn.Linear(200, 4))
    return module, from_module(module, (6,), name="mish", loss=Loss.CROSS_ENTROPY)


def test_the_graph_is_found_beside_the_plan_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    _, model = imported()
    path = tmp_path / "net.json"
    with pytest.raises(ConfigError, match=r"net\.graph: cannot be read .* import the model again"):
        load_graph(path, model.plan)
    (tmp_path / "net.graph").write_bytes(b"rubbish")
    with pytest.raises(ConfigError, match=r"net\.graph: not a training graph"):
        load_graph(path, model.plan)
    other = replace(model.graph, multiply_adds=1)
    (tmp_path / "net.graph").write_bytes(other.to_bytes())
    with pytest.raises(ConfigError, match="the plan's is"):
        load_graph(path, model.plan)
    (tmp_path / "net.graph").write_bytes(model.graph.to_bytes())
    assert load_graph(path, model.plan) == model.graph


def test_a_device_without_the_plan_gets_the_graph_with_it(tmp_path: Path) -> None:
    _, model = imported()
    now = Round(round_id=1, attempt=0, repeats=0, stage=Stage.TRAIN, index=0, evaluate=False)
    task, body = plan_task(small_job(tmp_path), model.plan, now, model.graph.to_bytes())
    parts = split_parts(task.parts, body.read())
    assert bytes(parts["plan"][1]) == model.plan.to_json().encode()
    assert bytes(parts["graph"][1]) == model.graph.to_bytes()


def test_scores_and_the_exported_model_are_torchs() -> None:
    module, model = imported()
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((300, 6), dtype=np.float32)
    with torch.no_grad():
        logits = module(torch.from_numpy(samples))
    labels = rng.integers(0, 4, 300)
    weights = from_tensors(model.plan, model.values)
    found = Evaluator(model.plan, samples, labels, model.graph).evaluate(weights)
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    assert found.loss_sum == pytest.approx(float(loss), rel=1e-5)
    assert found.correct == int((logits.argmax(1).numpy() == labels).sum())
    exported = graph_to_onnx(model.graph, model.values).SerializeToString()
    np.testing.assert_allclose(
        run(open_session(exported), {INPUT: samples}), logits.numpy(), 1e-4, 1e-5
    )
