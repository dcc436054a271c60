"""`fedsparse bench runtime`: small runs of the real thing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge_client.bench.case import Case, kept_at, write_case
from edge_client.bench.inputs import write_inputs
from edge_client.bench.worker import Device
from fedsparse.errors import ConfigError
from fedsparse.plan import Loss
from fedsparse.plan.zoo import digits_plan
from tools.bench import runtime
from tools.bench.targets import Target, verdicts
from tools.bench.torch_worker import Eager
from tools.cli import app

RUNNER = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


def bench(*arguments: str) -> str:
    result = RUNNER.invoke(app, ["bench", "runtime", "--quick", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_document_has_a_row_for_each_model_and_density(tmp_path: Path) -> None:
    path = tmp_path / "runtime.json"
    text = bench("--models", "digits", "--densities", "0.1,1.0", "--output", str(path), "--json")
    document = json.loads(text)
    assert document == json.loads(path.read_text())
    header = document.pop("header")
    assert header.keys() == {"machine", "versions", "limits", "method", "conditions", "command"}
    assert list(document["digits"]) == ["0.1", "1.0"]
    for row in document["digits"].values():
        assert row["speedup"] == pytest.approx(row["torch_ms"] / row["step_ms"])
        assert row["speedup_vs_masked"] == pytest.approx(row["torch_masked_ms"] / row["step_ms"])
        assert 10 < row["peak_rss_mb"] < row["torch_peak_rss_mb"]
        assert row["predicted_peak_mb"] == pytest.approx(row["peak_rss_mb"], rel=0.15)
        # Peak and step are timed one after the other, on a machine that others may use.
        assert 0 < row["fraction_of_fma_peak"] < 1.5
        assert row["setup_ms"] > 0 < row["mask_change_ms"]
        assert row["speedup_vs_graph"] == pytest.approx(row["graph_ms"] / row["step_ms"])
        best_dense = min(row["dense_ms"], row["graph_ms"])
        assert row["auto_vs_best_dense"] == pytest.approx(row["auto_ms"] / best_dense)
        assert row["auto_setup"]["micro_batch"] == 32
        assert row["predicted_step_ms"] > 0
    explained = (Path(__file__).parents[3] / "docs" / "runtime.md").read_text()
    names = [name for name in document["digits"]["0.1"] if not name.endswith("_peak_rss_mb")]
    unexplained = [name for name in names if f"`{name}`" not in explained]
    assert unexplained == ["kept", "parameters"]  # which say what they are
    low, high = (row["multiply_adds"] for row in document["digits"].values())
    assert low < high


def test_the_tables_fit_a_narrow_terminal_and_need_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "runtime.json"
    text = bench("--models", "digits", "--densities", "0.1", "--no-torch", "--output", str(path))
    assert max(map(len, text.splitlines())) <= 80
    assert "digits" in text
    row = json.loads(path.read_text())["digits"]["0.1"]
    assert row["speedup"] is None
    assert "torch_ms" not in row or row["torch_ms"] is None


@pytest.mark.parametrize("loss", list(Loss))
def test_sparse_and_torch_times_mask_train_the_same_model(tmp_path: Path, loss: Loss) -> None:
    plan = replace(digits_plan(), loss=loss)
    write_case(tmp_path, plan, Case(kept=kept_at(plan, 0.2), batch_size=8))
    write_inputs(tmp_path)
    device, eager = Device(tmp_path, "sparse"), Eager(tmp_path, "masked")
    for number in range(6):
        device.step(number)
        eager.step(number)
    trained = device.engine.weights().prunable
    parameters = dict(eager.module.named_parameters())
    parts = [parameters[one.name].detach().numpy().ravel() for one in plan.prunable]
    mask = np.unpackbits(np.fromfile(tmp_path / "mask.bin", np.uint8), count=plan.num_prunable)
    dense = np.concatenate(parts)
    np.testing.assert_allclose(dense[mask.astype(bool)], trained, rtol=1e-4, atol=1e-6)
    assert not dense[~mask.astype(bool)].any()


def test_without_torch_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'pip install "fedsparse\[torch\]".*--no-torch'):
        runtime.available_engines(with_torch=True)
    assert runtime.available_engines(with_torch=False) == ("sparse", "dense", "auto")


@pytest.mark.parametrize("densities", ["", "0,0.1", "0.1,2", "some"])
def test_densities_that_are_none_are_refused(densities: str) -> None:
    result = RUNNER.invoke(app, ["bench", "runtime", "--densities", densities])
    assert result.exit_code == 2


def test_a_target_is_met_at_its_bounds() -> None:
    speed = Target(figure="speedup", floor=7, aim=10)
    assert [speed.verdict(x) for x in (6.9, 7, 9.9, 10)] == ["miss", "floor", "floor", "aim"]
    memory = Target(figure="peak_rss_mb", floor=40, aim=36, at_most=True)
    assert [memory.verdict(x) for x in (41, 40, 36)] == ["miss", "floor", "aim"]


def test_only_what_was_measured_is_judged() -> None:
    row = {"speedup": None, "peak_rss_mb": 39.0}
    (one,) = verdicts("mnist", "0.1", row)
    assert (one["figure"], one["verdict"], one["measured"]) == ("peak_rss_mb", "floor", 39.0)
    assert verdicts("digits", "0.1", {"speedup": 1.0}) == []
