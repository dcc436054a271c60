"""`fedsparse bench paper`, from its options to its tables, figures and verdicts."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from tools.bench.paper.experiment import Experiment, experiment_names, load_experiment
from tools.bench.paper.figures import HOW_TO_GET_THEM, draw_figures, figures_available
from tools.bench.paper.grid import (
    Run,
    check_folder,
    claim_folder,
    finished_records,
    grid,
    is_claimed,
)
from tools.bench.paper.records import Record
from tools.bench.paper.report import as_json, markdown, write_report
from tools.bench.paper.runner import Failure, Train, run_all
from tools.bench.paper.summary import summarise
from tools.bench.paper.table import make_table
from tools.bench.paper.train import check_data, check_specs, train_run
from tools.bench.paper.verdicts import judge
from tools.bench.paper.view import RunsView
from tools.demo.processes import ended_by_signals
from tools.simulation.lock import alone

QUICK: Final = "quick"
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
IN_USE: Final = (
    "another command runs the experiment in %s: wait for it, stop it, or take another --output; "
    "--report-only shows meanwhile what is finished"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRequest:
    """What is asked for on the command line.

    Attributes:
        experiment: its name, or the path of its file.
        output: the folder with a folder for each experiment.
        workers: processes that train; None = one a core.
        only: names of cases to run; empty = all.
        report_only: run nothing, and make no folder; what cannot be written is only printed.
        as_json: print JSON instead of Markdown.
        quick: print and write the summary, too.
    """

    experiment: str
    output: Path
    workers: int | None = None
    only: tuple[str, ...] = ()
    report_only: bool = False
    as_json: bool = False
    quick: bool = False


def run_paper(request: PaperRequest, train: Train = train_run) -> int:
    """Run what is missing, write table and figures, print the table; returns the exit code.

    Raises:
        ConfigError: the file is invalid, or the folder holds another experiment, a damaged run,
            is in use, or cannot be read or written.
        DataError: the data cannot be fetched or divided.
    """
    experiment = load_experiment(request.experiment)
    folder = request.output / experiment.name
    runs = grid(experiment, folder, request.only)
    with _alone(request, folder):
        return _run_paper(request, experiment, folder, runs, train)


def _run_paper(
    request: PaperRequest, experiment: Experiment, folder: Path, runs: Sequence[Run], train: Train
) -> int:
    """As `run_paper`, where no other command runs the experiment."""
    with _usable(request.output):
        missing = _prepare(request, experiment, folder, runs)
    try:
        workers = request.workers or len(os.sched_getaffinity(0))
        failures = _run(missing, len(runs) - len(missing), workers, train)
    except (KeyboardInterrupt, SystemExit) as stop:
        typer.echo("stopped; the same command goes on from here", err=True)
        code = stop.code if isinstance(stop, SystemExit) else None
        return code if isinstance(code, int) else EXIT_INTERRUPTED
    with _usable(request.output):
        _report(request, experiment, folder, finished_records(grid(experiment, folder)))
    for failure in failures:
        typer.echo(f"{failure.run.name} failed: {failure.reason}", err=True)
    return EXIT_FAILED if failures else 0


def choose(experiment: str, *, quick: bool, listing: bool) -> str:
    """The experiment that is meant on the command line; "" where all are to be listed."""
    if quick and experiment not in ("", QUICK):
        raise typer.BadParameter("the short form is an experiment itself", param_hint="--quick")
    name = QUICK if quick else experiment
    if not name and not listing:
        raise typer.BadParameter("name an experiment, or take --quick or --list")
    return name


def list_paper(name: str, output: Path) -> list[str]:
    """A line for each run of an experiment and whether it is done, or for each experiment."""
    return _list_runs(name, output) if name else _list_experiments()


def _list_experiments() -> list[str]:
    lines = []
    for name in experiment_names():
        experiment = load_experiment(name)
        runs = len(grid(experiment, Path(name)))
        lines.append(f"{name:<18}{runs:>4} runs   {experiment.title}")
    return lines


def _list_runs(name: str, output: Path) -> list[str]:
    experiment = load_experiment(name)
    with _usable(output):
        return [
            f"{'done' if run.finished else 'to do':<7}{run.name}"
            for run in grid(experiment, output / experiment.name)
        ]


@contextlib.contextmanager
def _alone(request: PaperRequest, folder: Path) -> Iterator[None]:
    """Let no second command run this experiment here; reports may be made meanwhile."""
    with contextlib.ExitStack() as held:
        if not request.report_only:
            with _usable(request.output):
                held.enter_context(alone(folder.with_name(f".{folder.name}.lock"), IN_USE % folder))
        yield


@contextlib.contextmanager
def _usable(output: Path) -> Iterator[None]:
    """A folder that cannot be read or written is the user's to mend, not a bug."""
    try:
        if output.exists() and not output.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(output))
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"{error.filename or output}: {reason}; mend that, or take another --output"
        ) from error


def _prepare(
    request: PaperRequest, experiment: Experiment, folder: Path, runs: Sequence[Run]
) -> list[Run]:
    """Check everything that can be checked; returns the runs that are to be done."""
    check_folder(folder, experiment)
    everything = grid(experiment, folder)
    check_specs(everything)
    finished_records(everything)  # a damaged one shows before hours are spent on others
    if request.report_only:
        return []
    missing = [run for run in runs if not run.finished]
    if missing:
        check_data(missing)
    claim_folder(folder, experiment)
    return missing


def _run(runs: Sequence[Run], finished: int, workers: int, train: Train) -> tuple[Failure, ...]:
    """What failed."""
    if not runs:
        return ()
    with ended_by_signals(), RunsView(runs, finished=finished) as view:
        return run_all(runs, workers=workers, view=view, train=train)


def _report(
    request: PaperRequest, experiment: Experiment, folder: Path, records: Sequence[Record]
) -> None:
    """Print what was asked for, and keep all of it in the experiment's folder."""
    result = make_table(experiment, records), judge(experiment, records)
    summary = json.dumps(summarise(experiment, records), indent=2) + "\n" if request.quick else ""
    try:
        if is_claimed(folder):
            write_report(folder, experiment, *result)
            _keep(experiment, folder, records, summary)
    except OSError as error:
        if not request.report_only:
            raise
        typer.echo(f"printed only: {error.filename or folder}: {error.strerror}", err=True)
    form = as_json if request.as_json else markdown
    typer.echo(summary or form(experiment, *result), nl=False)


def _keep(experiment: Experiment, folder: Path, records: Sequence[Record], summary: str) -> None:
    """Write what is there beside the tables."""
    if figures_available():
        for path in draw_figures(experiment, records, folder):
            typer.echo(f"written {path}", err=True)
    else:
        typer.echo(HOW_TO_GET_THEM, err=True)
    typer.echo(f"written {folder / 'table.md'}", err=True)
    if summary:
        write_durably(folder / "summary.json", summary.encode())
        typer.echo(f"written {folder / 'summary.json'}", err=True)
