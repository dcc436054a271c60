"""`fedsparse bench forecast`, and what its short form must show of the engine's cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsparse.plan.finding import find_plan
from tools.bench.forecast import ForecastRow, measure_forecast
from tools.cli import app

RUNNER = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


def row(predicted_mb: float, measured_mb: float, time_error: float = 0.0) -> ForecastRow:
    return ForecastRow(
        model="m",
        density=0.1,
        batch_size=8,
        predicted_mb=predicted_mb,
        measured_mb=measured_mb,
        predicted_ms=1 + time_error,
        measured_ms=1.0,
    )


def test_memory_may_be_off_by_15_percent_or_a_megabyte_but_hardly_below() -> None:
    assert row(11.4, 10).memory_holds
    assert not row(11.6, 10).memory_holds
    assert row(2.9, 2).memory_holds
    assert not row(3.1, 2).memory_holds
    assert row(9.8, 10).memory_holds
    assert not row(9.6, 10).memory_holds


def test_time_may_be_off_by_a_quarter() -> None:
    assert [row(1, 1, error).time_holds for error in (-0.26, -0.24, 0.24, 0.26)] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("model", "batch"), [("mnist", 8), ("har", 32), ("resnet", 4)])
def test_the_memory_that_a_budget_expects_is_what_training_takes(
    model: str, batch: int, tmp_path: Path
) -> None:
    """On a loaded machine times say nothing; memory is the same on every machine."""
    told: list[str] = []
    rows = measure_forecast(
        model,
        find_plan(model),
        (0.05, 1.0),
        batch,
        tmp_path,
        rounds=1,
        block_s=0.01,
        progress=lambda what, _: told.append(what),
    )
    assert [one.density for one in rows] == [0.05, 1.0]
    assert [one for one in rows if not one.memory_holds] == []
    assert all(one.predicted_ms > 0 and one.measured_ms > 0 for one in rows)
    assert told[0] == "calibrating"


def test_the_command_writes_every_case_and_prints_a_narrow_table(tmp_path: Path) -> None:
    path = tmp_path / "forecast.json"
    command = ["bench", "forecast", "--models", "digits", "--densities", "0.1,1.0"]
    result = RUNNER.invoke(app, [*command, "--batches", "1,4", "--quick", "--output", str(path)])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    rows = json.loads(path.read_text())["rows"]
    assert [(one["batch_size"], one["density"]) for one in rows] == [
        (1, 0.1), (1, 1.0), (4, 0.1), (4, 1.0),
    ]  # fmt: skip
    assert all({"memory_holds", "time_holds"} < one.keys() for one in rows)


@pytest.mark.parametrize("batches", ["", "0", "1,x", "2.5"])
def test_batches_that_are_none_are_refused(batches: str) -> None:
    result = RUNNER.invoke(app, ["bench", "forecast", "--batches", batches])
    assert result.exit_code == 2
