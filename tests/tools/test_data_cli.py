from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from fedsparse.errors import DataError
from tools.data_cli import app


def test_list_names_every_data_set() -> None:
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "watch", "digits", "mnist", "cifar10",
    ]  # fmt: skip


def test_prepare_writes_the_files_that_it_names(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "digits", "-o", str(tmp_path), "--devices", "3"])
    assert result.exit_code == 0, result.output
    named = [Path(line.split()[0]) for line in result.stdout.splitlines()[:-1]]
    assert len(named) == 4
    assert all(path.is_file() for path in named)
    assert "--input 1,8,8, 10 classes" in result.stdout


def test_prepare_can_answer_a_program(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["prepare", "watch", "-o", str(tmp_path), "--devices", "2", "--seed", "5", "--json"]
    )
    assert json.loads(result.stdout) == json.loads((tmp_path / "dataset.json").read_text("utf-8"))


def test_an_unknown_data_set_reaches_the_process_boundary(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "digit", "-o", str(tmp_path)])
    assert isinstance(result.exception, DataError)
    assert "did you mean 'digits'" in str(result.exception)
