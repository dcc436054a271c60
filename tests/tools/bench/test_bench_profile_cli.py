"""`fedsparse bench profile`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fedsparse.plan.zoo import digits_plan
from tools.cli import app

RUNNER = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


def test_the_document_holds_every_call_and_the_limits_they_are_held_against() -> None:
    command = ["bench", "profile", "digits", "--batch", "4", "--steps", "2", "--json"]
    result = RUNNER.invoke(app, command)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["limits"]["fma_per_s"] > 0
    assert 0 < document["fraction_of_fma_peak"] < 1
    assert document["step_s"] == pytest.approx(sum(one["seconds"] for one in document["calls"]))
    kept = [round(0.1 * tensor.size) for tensor in digits_plan().prunable]
    conv2 = [one for one in document["calls"] if one["node"] == "conv2" and one["multiply_adds"]]
    assert [one["multiply_adds"] for one in conv2] == [4 * 64 * kept[0]] * 3


@pytest.mark.parametrize("by", ["call", "kernel", "node"])
def test_the_table_fits_a_narrow_terminal(by: str) -> None:
    result = RUNNER.invoke(
        app, ["bench", "profile", "digits", "--batch", "2", "--steps", "1", "--by", by]
    )
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert ("conv2" in result.stdout) == (by != "kernel")
    assert "multiply-adds/s" in result.stdout


def test_an_unknown_model_names_the_known_ones() -> None:
    result = RUNNER.invoke(app, ["bench", "profile", "mnits"])
    assert result.exit_code != 0
    assert "mnist" in str(result.exception)
