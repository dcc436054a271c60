"""`fedsparse bench paper`, from its options to its tables, figures and verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from fedsparse.durable import write_durably
from tools.bench.paper.experiment import Experiment, experiment_names, load_experiment
from tools.bench.paper.figures import HOW_TO_GET_THEM, draw_figures, figures_available
from tools.bench.paper.grid import Run, check_folder, claim_folder, finished_records, grid
from tools.bench.paper.records import Record
from tools.bench.paper.report import to_document, write_report
from tools.bench.paper.runner import Failure, Train, run_all
from tools.bench.paper.summary import summarise
from tools.bench.paper.table import make_table
from tools.bench.paper.train import check_data, check_specs, train_run
from tools.bench.paper.verdicts import judge
from tools.bench.paper.view import RunsView
from tools.demo.processes import ended_by_signals

QUICK: Final = "quick"
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRequest:
    """What is asked for on the command line.

    Attributes:
        experiment: its name, or the path of its file.
        output: the folder with a folder for each experiment.
        workers: processes that train.
        only: names of cases to run; empty = all.
        report_only: run nothing.
        as_json: print JSON instead of Markdown.
        quick: print and write the summary, too.
    """

    experiment: str
    output: Path
    workers: int
    only: tuple[str, ...] = ()
    report_only: bool = False
    as_json: bool = False
    quick: bool = False


def run_paper(request: PaperRequest, train: Train = train_run) -> int:
    """Run what is missing, write table and figures, print the table; returns the exit code.

    Raises:
        ConfigError: the file is invalid, or the folder holds another experiment.
        DataError: the data cannot be fetched or divided.
    """
    experiment = load_experiment(request.experiment)
    folder = request.output / experiment.name
    runs = grid(experiment, folder, request.only)
    check_folder(folder, experiment)
    check_specs(grid(experiment, folder))
    missing = [] if request.report_only else [run for run in runs if not run.finished]
    if missing:
        check_data(missing)
    claim_folder(folder, experiment)
    failures = _run(missing, len(runs) - len(missing), request.workers, train)
    if failures is None:
        typer.echo("stopped; the same command goes on from here", err=True)
        return EXIT_INTERRUPTED
    records = finished_records(grid(experiment, folder))
    _report(request, experiment, folder, records)
    for failure in failures:
        typer.echo(f"{failure.run.name} failed: {failure.reason}", err=True)
    return EXIT_FAILED if failures else 0


def list_experiments() -> list[str]:
    """A line for each experiment that ships with the package."""
    lines = []
    for name in experiment_names():
        experiment = load_experiment(name)
        runs = len(grid(experiment, Path(name)))
        lines.append(f"{name:<18}{runs:>4} runs   {experiment.title}")
    return lines


def list_runs(name: str, output: Path) -> list[str]:
    """A line for each run of an experiment, and whether it is done."""
    experiment = load_experiment(name)
    return [
        f"{'done' if run.finished else 'to do':<7}{run.name}"
        for run in grid(experiment, output / experiment.name)
    ]


def _run(
    runs: Sequence[Run], finished: int, workers: int, train: Train
) -> tuple[Failure, ...] | None:
    """What failed; None after Ctrl-C."""
    if not runs:
        return ()
    try:
        with ended_by_signals(), RunsView(runs, finished=finished) as view:
            return run_all(runs, workers=workers, view=view, train=train)
    except KeyboardInterrupt:
        return None


def _report(
    request: PaperRequest, experiment: Experiment, folder: Path, records: Sequence[Record]
) -> None:
    table, verdicts = make_table(experiment, records), judge(experiment, records)
    text = write_report(folder, experiment, table, verdicts)
    if figures_available():
        for path in draw_figures(experiment, records, folder):
            typer.echo(f"written {path}", err=True)
    else:
        typer.echo(HOW_TO_GET_THEM, err=True)
    typer.echo(f"written {folder / 'table.md'}", err=True)
    if request.quick:
        text = _written(folder / "summary.json", summarise(experiment, records))
    elif request.as_json:
        text = json.dumps(to_document(experiment, table, verdicts), indent=2) + "\n"
    typer.echo(text, nl=False)


def _written(path: Path, document: dict[str, Any]) -> str:
    text = json.dumps(document, indent=2) + "\n"
    write_durably(path, text.encode())
    typer.echo(f"written {path}", err=True)
    return text
