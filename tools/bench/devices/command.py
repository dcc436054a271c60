"""`fedsparse bench devices`, from its options to its file and table."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from edge_client.bench.machine import describe_machine, describe_versions
from edge_client.runtime.native.library import load_library
from fedsparse.boards import load_board
from fedsparse.errors import ConfigError, FedSparseError
from tools.bench.devices.cases import (
    LINK_TEXT,
    bad_link,
    idle_fleet,
    one_board,
    small_board,
    work_of,
)
from tools.bench.devices.idle import MOST_MB, Idle, measure_idle
from tools.bench.devices.link import MOST_RATIO, LinkResult, read_link
from tools.bench.devices.parts import Part
from tools.bench.devices.rows import Row, failed_row, read_row
from tools.bench.progress import ProgressLine
from tools.demo.processes import RunFailedError
from tools.demo.views import QuietView
from tools.emulate.fleet_file import Fleet
from tools.emulate.run import run_fleet

METHOD: Final = (
    "Each row is a job of one real client under the limits of its board, one board at a time. The "
    "client measures its kernels under them, chooses its level by that and trains. Memory: "
    "predicted at the last offer, against the highest resident memory of agent and trainer. Time: "
    "from the task to the update as the aggregator saw them, medians over the rounds, seconds of "
    "this host; a second of this host is time_scale of the board's. MB = 1e6 bytes."
)
HOLDS: Final = (
    "increase of memory within 15 % or 1 MB and not more than 3 % below, round time within 25 %, "
    "nothing killed, every task in time"
)
SMALL_MIB: Final = 64e6 / 2**20
FRACTIONS: Final = (0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesRequest:
    """What is asked for on the command line.

    Attributes:
        boards, models: of the table.
        rounds: of training, of each of its runs; stage 1 is one more.
        parts: what is measured.
        clients: that wait, in the part `idle`.
        output: the JSON file; what the runs leave lies in a folder beside it.
    """

    boards: tuple[str, ...]
    models: tuple[str, ...]
    rounds: int
    parts: tuple[Part, ...]
    clients: int
    output: Path
    as_json: bool


@dataclass(slots=True, kw_only=True)
class Results:
    """What was measured so far."""

    rows: list[Row] = field(default_factory=list)
    small: list[Row] = field(default_factory=list)
    link: LinkResult | None = None
    idle: Idle | None = None
    errors: list[str] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """Of all devices together."""
        return sum(len(row.rounds) for row in (*self.rows, *self.small))

    @property
    def killed(self) -> int:
        """In all of them, as far as that is known."""
        return sum(row.killed or 0 for row in (*self.rows, *self.small))

    @property
    def holds(self) -> bool:
        """Whether everything does."""
        others = [one for one in (self.link, self.idle) if one is not None]
        return not self.errors and all(one.holds for one in (*self.rows, *self.small, *others))

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": [row.to_document() for row in self.rows],
            "small": [row.to_document() for row in self.small],
            "link": self.link.to_document() if self.link else None,
            "idle": self.idle.to_document() if self.idle else None,
            "rounds": self.rounds,
            "killed": self.killed,
            "errors": self.errors,
        }


def run_devices(request: DevicesRequest) -> bool:
    """Measure, write the results after each step, print them; returns whether everything holds.

    Raises:
        ConfigError: a board or a model is unknown, or this host cannot be a board.
    """
    for board in request.boards:
        load_board(board)
    for model in request.models:
        work_of(model)
    if request.output.suffix != ".json":
        raise ConfigError(f"--output {request.output}: give the name of a .json file")
    header = {
        "machine": describe_machine(load_library()),
        "versions": describe_versions(),
        "method": METHOD,
        "holds": HOLDS,
        "command": shlex.join(["fedsparse", *sys.argv[1:]]),
    }
    steps = list(_steps(request))
    results = Results()
    with ProgressLine(len(steps)) as progress:
        for name, step in steps:
            progress.begin(name)
            try:
                step(results)
            except FedSparseError as error:  # the others may do
                results.errors.append(f"{name}: {error}")
                typer.echo(results.errors[-1], err=True)
            progress.end()
            _write(request.output, {"header": header, **results.to_document()})
    typer.echo(f"written to {request.output}", err=True)
    if request.as_json:
        typer.echo(request.output.read_text(encoding="utf-8"), nl=False)
    else:
        _print(results)
    return results.holds


def _steps(request: DevicesRequest) -> Iterator[tuple[str, Callable[[Results], None]]]:
    """What is done one after the other, each with its name."""
    runs = request.output.with_suffix("")
    if Part.BOARDS in request.parts:
        for board in request.boards:
            for model in request.models:
                fleet = one_board(board, model, request.rounds)
                yield fleet.name, _run_row(fleet, runs, board, model, "rows")
    if Part.SMALL in request.parts:
        for model in request.models:
            for fraction in FRACTIONS:
                fleet = small_board(model, SMALL_MIB, fraction)
                board = f"64 MB x {fraction:g}"
                yield fleet.name, _run_row(fleet, runs, board, model, "small")
    if Part.LINK in request.parts:
        fleet = bad_link(request.rounds)
        yield fleet.name, _run_link(fleet, runs)
    if Part.IDLE in request.parts:
        yield f"{request.clients} idle clients", _run_idle(idle_fleet(request.clients), runs)


def _run_row(
    fleet: Fleet, runs: Path, board: str, model: str, where: str
) -> Callable[[Results], None]:
    def step(results: Results) -> None:
        try:
            row = read_row(runs / fleet.name, board, model, error=_run(fleet, runs))
        except FedSparseError as error:
            row = failed_row(board, model, str(error))
        getattr(results, where).append(row)

    return step


def _run_link(fleet: Fleet, runs: Path) -> Callable[[Results], None]:
    def step(results: Results) -> None:
        error = _run(fleet, runs)
        results.link = read_link(runs / fleet.name, fleet.job.rounds, error=error)

    return step


def _run_idle(fleet: Fleet, runs: Path) -> Callable[[Results], None]:
    def step(results: Results) -> None:
        results.idle = measure_idle(fleet, runs / fleet.name, QuietView())

    return step


def _run(fleet: Fleet, runs: Path) -> str:
    """What broke a run off, in a line; empty where it came to its end.

    Raises:
        FedSparseError: it could not begin.
    """
    try:
        run_fleet(fleet, None, runs / fleet.name, QuietView())
    except RunFailedError as error:
        return str(error).splitlines()[0]
    return ""


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _print(results: Results) -> None:
    console = Console()
    if results.rows or results.small:
        console.print(devices_table(results))
    if results.link:
        link = results.link
        console.print(
            f"{LINK_TEXT} ({link.mechanism}): {link.rounds} of {link.wanted} rounds with updates, "
            f"{link.sent_bytes / 1e6:.2f} MB sent for {link.payload_bytes / 1e6:.2f} MB of "
            f"payload, {link.ratio:.3f} times (at most {MOST_RATIO})"
        )
    if results.idle:
        idle = results.idle
        console.print(
            f"{idle.clients} idle clients: at most {idle.rss_mb:.1f} MB resident each (at most "
            f"{MOST_MB:g}), {idle.pss_median_mb:.1f} MB of their own, {idle.total_pss_mb:.0f} MB "
            "together"
        )


def devices_table(results: Results) -> Table:
    """One row a board and model; what does not hold is marked."""
    rows = [*results.rows, *results.small]
    table = Table(
        title="what boards chose, predicted and took",
        caption=f"{sum(row.holds for row in rows)} of {len(rows)} hold (! = not): {HOLDS}; "
        f"{results.rounds} rounds, {results.killed} processes killed; s of this host",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("board", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for name in ("level", "MB\npred.", "\nmeas.", "\noff", "s\npred.", "\nmeas.", "\noff", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.board.removeprefix("raspberry-"), row.model, *_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    kept = "yes" if row.promise_holds else "no !"
    if row.level is None:
        return ("error !" if row.error else "declined", "", "", "", "", "", "", kept)
    return (
        f"{row.level:g}",
        f"{row.predicted_increase_mb:.1f}",
        f"{row.increase_mb:.1f}",
        _off(row.memory_error, row.memory_holds),
        f"{row.predicted_round_s:.1f}",
        f"{row.round_s:.1f}",
        _off(row.time_error, row.time_holds),
        kept,
    )


def _off(error: float, holds: bool) -> str:
    return f"{100 * error:+.0f}%{'' if holds else '!'}"
