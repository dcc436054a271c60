import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from aggregator.models.to_onnx import to_onnx
from aggregator.models.weights import load_weights
from fedsparse.plan import Loss, Plan
from fedsparse.plan.zoo import digits_plan
from fedsparse.types import Weights
from tools.model_cli import app

MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv1d(6, 20, 9), nn.Mish() if {mish} else nn.ReLU(), nn.Flatten(),
                         nn.Linear(240, 30), nn.ReLU(), nn.Linear(30, 5), nn.Softmax(1))
"""


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def model(folder: Path, *, mish: bool = False) -> str:
    path = folder / ("mish_model.py" if mish else "my_model.py")
    path.write_text(MODEL.format(mish=mish))
    return f"{path}:Net"


def cells(line: str) -> list[str]:
    return re.sub(r"[│┃|]", " ", line).split()


def test_a_torch_model_becomes_a_plan_and_weights(tmp_path: Path) -> None:
    plan_file, weights_file = tmp_path / "plan.json", tmp_path / "w.npz"
    code, output, errors = run(
        "import", model(tmp_path), "--input", "6,20", "-o", plan_file, "--weights", weights_file
    )
    assert code == 0
    assert errors == "note: the last softmax is dropped: the loss is taken on logits\n"
    plan = Plan.from_json(plan_file.read_text())
    assert (plan.name, plan.input_shape, plan.classes) == ("Net", (6, 20), 5)
    assert load_weights(weights_file, plan).prunable.size == plan.num_prunable == 1080 + 7200
    rows = [cells(line) for line in output.splitlines()]
    assert ["3", "linear", "30", "7,230", "7,200"] in rows
    assert ["5", "linear", "5", "155"] in rows
    assert ["total", "8,485", "8,280"] in rows


def test_an_onnx_file_becomes_the_same_plan(tmp_path: Path) -> None:
    plan = digits_plan()
    weights = Weights(
        prunable=np.ones(plan.num_prunable, np.float32), dense=np.ones(plan.num_dense, np.float32)
    )
    onnx.save(to_onnx(plan, weights), tmp_path / "digits.onnx")
    code, _, _ = run("import", tmp_path / "digits.onnx", "-o", tmp_path / "plan.json")
    assert code == 0
    assert Plan.from_json((tmp_path / "plan.json").read_text()).digest == plan.digest


def test_layers_are_kept_dense_or_pruned_by_name(tmp_path: Path) -> None:
    plan_file = tmp_path / "plan.json"
    arguments = ("import", model(tmp_path), "--input", "6x20", "-o", plan_file, "--name", "mine")
    assert run(*arguments, "--dense", "0", "--dense", "3", "--prune", "5")[0] == 0
    plan = Plan.from_json(plan_file.read_text())
    assert plan.name == "mine"
    assert [tensor.name for tensor in plan.prunable] == ["5.weight"]


def test_show_prints_a_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(digits_plan().to_json())
    code, output, _ = run("show", tmp_path / "plan.json")
    assert code == 0
    rows = [cells(line) for line in output.splitlines()]
    assert ["conv2", "conv", "64", "x", "8", "x", "8", "18,496", "18,432"] in rows
    assert digits_plan().digest[:12] in output


def test_the_loss_is_chosen_on_the_command_line(tmp_path: Path) -> None:
    path, plan_file = tmp_path / "regression.py", tmp_path / "plan.json"
    path.write_text(MODEL.format(mish=False).replace("nn.Softmax(1)", "nn.Tanh()"))
    code, output, _ = run(
        "import", f"{path}:Net", "--input", "6,20", "-o", plan_file, "--loss", "mse"
    )
    assert code == 0
    assert Plan.from_json(plan_file.read_text()).loss is Loss.MSE
    assert "loss mse, digest" in output
    code, _, errors = run(
        "import", model(tmp_path), "--input", "6,20", "-o", plan_file, "--loss", "mse"
    )
    assert code == 2
    assert "does not go with the loss 'mse'" in errors


def test_an_error_is_one_line_that_names_the_culprit(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.onnx").write_text("{}")
    for arguments, reason in [
        (("import", model(tmp_path, mish=True), "--input", "6,20"), r"node '1' \(aten.mish"),
        (("import", model(tmp_path), "--input", "6,x"), "--input 6,x: expected positive sizes"),
        (("import", model(tmp_path), "--input", "6,0"), "--input 6,0: expected positive sizes"),
        (("import", model(tmp_path)), "needs the shape of one sample"),
        (("import", model(tmp_path), "--input", "6,20", "--dense", "fc"), "'fc' matches no layer"),
        (("import", tmp_path / "bad.onnx"), "bad.onnx: not a valid ONNX model"),
    ]:
        code, output, errors = run(*arguments, "-o", out)
        assert (code, output) == (2, "")
        assert re.fullmatch(f"error: .*{reason}.*\n", errors)
        assert not out.exists()
    for name, reason in (("bad", "bad.json: not a plan"), ("none", "none.json: cannot be read")):
        code, output, errors = run("show", tmp_path / f"{name}.json")
        assert (code, output) == (2, "")
        assert re.fullmatch(f"error: .*{reason}.*\n", errors)


def test_a_plan_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    code, _, errors = run(
        "import", model(tmp_path), "--input", "6,20", "-o", tmp_path / "my_model.py" / "plan.json"
    )
    assert code == 2
    assert "plan.json: cannot be written" in errors
