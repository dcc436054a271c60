"""The command line: help, version, one line for an error, and a quick start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
from demo_recording import write_run
from typer.testing import CliRunner

from fedsparse import __version__
from fedsparse.methods.method import METHODS
from tools.bench.cli import accuracy
from tools.cli import app
from tools.demo.cli import demo
from tools.demo.processes import environment
from tools.demo.scenario import RECIPES

RUNNER = CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"})
COMMANDS = ("demo", "report", "devices", "aggregator", "broker", "model", "data", "bench")


def fedsparse(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(os.environ), capture_output=True, text=True, check=False
    )


def test_the_help_names_every_command() -> None:
    result = RUNNER.invoke(app, ["--help"])
    assert result.exit_code == 0
    assert [name for name in COMMANDS if name not in result.output] == []


@pytest.mark.parametrize("command", [*COMMANDS, "bench accuracy"])
def test_every_command_explains_itself(command: str) -> None:
    result = RUNNER.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("command", [demo, accuracy])
def test_every_method_and_data_set_can_be_chosen(command: Callable[..., None]) -> None:
    options = get_type_hints(command)
    assert {name.value for name in options["method"]} == set(METHODS)
    assert {name.value for name in options["dataset"]} == set(RECIPES)


def test_the_version_is_printed() -> None:
    assert RUNNER.invoke(app, ["--version"]).output.strip() == f"fedsparse {__version__}"


def test_an_error_of_ours_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = fedsparse("report", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"fedsparse: {tmp_path} holds no finished run")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--username", "fleet"], "give both"),
        (["--password-file", "none.txt", "--username", "fleet"], "none.txt: cannot be read"),
        (["--host", "192.0.2.1"], "192.0.2.1"),
    ],
)
def test_a_broker_that_would_be_open_or_half_configured_is_refused(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    result = fedsparse("broker", "--port", "0", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert complaint in result.stderr


def test_a_demo_does_not_touch_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    result = fedsparse("demo", "--output", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 2
    assert "choose another --output" in result.stderr


def test_a_report_can_be_written_again(tmp_path: Path) -> None:
    write_run(tmp_path)
    picture = tmp_path / "picture.svg"
    result = RUNNER.invoke(app, ["report", str(tmp_path), "--picture", str(picture)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").exists()
    assert picture.exists()


def test_the_command_line_loads_no_heavy_library(tmp_path: Path) -> None:
    code = (
        "import sys, tools.cli; "
        "print([name for name in ('numpy', 'onnx', 'onnxruntime', 'torch') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment(os.environ), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "[]"
