"""The command `fedsparse bench paper`: its lists, its refusals, the summary of the short form."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from paper_runs import plain, write_experiment, write_record
from typer.testing import CliRunner, Result

from fedsparse.errors import ConfigError
from tools.bench import cli
from tools.bench.paper.experiment import experiment_names, load_experiment
from tools.bench.paper.grid import claim_folder, grid
from tools.cli import app
from tools.simulation.spec import claim

RUNNER = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})


def paper(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["bench", "paper", *arguments])


def test_every_experiment_is_listed_with_its_runs() -> None:
    lines = paper("--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(experiment_names())
    assert "quick                5 runs   MNIST in short, density 0.05" in lines


def test_the_help_is_as_wide_as_a_terminal_of_80_columns() -> None:
    """Lines that are longer would be broken, and the rest of each stand alone."""
    shown = [line.strip() for line in paper("--help").stdout.splitlines()]
    said = (cli.paper.__doc__ or "").splitlines()
    assert len(said) > 5
    assert {line.strip() for line in said} <= set(shown)


def test_the_runs_of_an_experiment_are_listed_with_what_is_done(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    write_record(tmp_path / "tiny/runs/spdst-a1000-s1", plain("spdst", 0.05, 0.9))
    lines = paper(str(path), "--list", "--output", str(tmp_path)).stdout.splitlines()
    assert lines[0] == "to do  dense-a1000-s0"
    assert [line for line in lines if line.startswith("done")] == ["done   spdst-a1000-s1"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "name an experiment"),
        (("mnist", "--quick"), "the short form is an experiment itself"),
        (("quick", "--workers", "0"), "--workers"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    result = paper(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_case_that_there_is_not_is_refused(tmp_path: Path) -> None:
    result = paper("quick", "--only", "spdts", "--output", str(tmp_path))
    assert isinstance(result.exception, ConfigError)
    assert "no case 'spdts'; did you mean" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_printed_as_json_on_request(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    claim_folder(tmp_path / "out/tiny", load_experiment(str(path)))
    result = paper(str(path), "--report-only", "--json", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(
        (tmp_path / "out/tiny/table.json").read_text(encoding="utf-8")
    )


def test_the_short_form_prints_and_writes_a_summary(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    experiment = load_experiment("quick")
    claim_folder(folder, experiment)
    for run in grid(experiment, folder, ("dense", "nst", "spdst")):
        claim(run.folder, run.spec)
        level = run.spec.method.levels[0]
        write_record(run.folder, plain(run.case, level, 0.5, alpha=1.0))
    result = paper("--quick", "--report-only", "--output", str(tmp_path))
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary == json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert set(summary) == {"dense", "nst", "pdst", "spdst", "jmwst", "bytes_ratio", "consensus"}
    assert (summary["nst"], summary["pdst"], summary["bytes_ratio"]) == (0.5, None, 10.0)


def test_without_matplotlib_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = write_experiment(tmp_path)
    claim_folder(tmp_path / "out/tiny", load_experiment(str(path)))
    result = paper(str(path), "--report-only", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert 'no figures: they need matplotlib: pip install "fedsparse[bench]"' in result.stderr
