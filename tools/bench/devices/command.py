"""`fedsparse bench devices`, from its options to its file and table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from fedsparse.boards import load_board
from fedsparse.errors import ConfigError, FedSparseError
from tools.bench.devices.cases import (
    BAD_LINK_TEXT,
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
from tools.bench.document import header, tell_of, write_document
from tools.bench.progress import ProgressLine
from tools.bench.tolerance import HOLDS, percent_off
from tools.demo.processes import RunFailedError
from tools.demo.views import QuietView
from tools.emulate.fleet_file import Fleet
from tools.emulate.run import run_fleet

METHOD: Final = (
    "Each row is a job of one real client under the limits of its board; nothing else runs, but "
    "for a second board that keeps the job going where one of 64 MB declines. The client measures "
    "its kernels under them, chooses its level by that and trains. Memory: predicted by model, "
    "samples and setup alone, without what earlier rounds took, against the highest resident "
    "memory of agent and trainer. Time: from the task to the update as the aggregator saw them, "
    "each predicted before its round, medians over the rounds, seconds of this host; a second of "
    "this host is time_scale of the board's. MB = 1e6 bytes."
)
ALL_HOLDS: Final = f"{HOLDS}; nothing killed, every task in time"
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
    about = header(method=METHOD, holds=ALL_HOLDS)
    results = Results()
    steps = list(_steps(request, results))
    with ProgressLine(len(steps)) as progress:
        for name, step in steps:
            progress.begin(name)
            try:
                step()
            except FedSparseError as error:  # the others may do
                results.errors.append(f"{name}: {error}")
                typer.echo(results.errors[-1], err=True)
            progress.end()
            write_document(request.output, {"header": about, **results.to_document()})
    tell_of(request.output, as_json=request.as_json)
    if not request.as_json:
        _print(results)
    return results.holds


def _steps(request: DevicesRequest, results: Results) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is done one after the other, each with its name; it adds to the results."""
    runs = request.output.with_suffix("")
    if Part.BOARDS in request.parts:
        for board, model in product(request.boards, request.models):
            fleet = one_board(board, model, request.rounds)
            yield fleet.name, partial(_run_row, fleet, runs, (board, model), results.rows)
    if Part.SMALL in request.parts:
        for model, fraction in product(request.models, FRACTIONS):
            fleet = small_board(model, SMALL_MIB, fraction)
            names = f"64 MB x {fraction:g}", model
            yield fleet.name, partial(_run_row, fleet, runs, names, results.small)
    if Part.LINK in request.parts:
        fleet = bad_link(request.rounds)
        yield fleet.name, partial(_run_link, fleet, runs, results)
    if Part.IDLE in request.parts:
        fleet = idle_fleet(request.clients)
        yield f"{request.clients} idle clients", partial(_run_idle, fleet, runs, results)


def _run_row(fleet: Fleet, runs: Path, names: tuple[str, str], rows: list[Row]) -> None:
    try:
        row = read_row(runs / fleet.name, *names, error=_run(fleet, runs))
    except FedSparseError as error:
        row = failed_row(*names, str(error))
    rows.append(row)


def _run_link(fleet: Fleet, runs: Path, results: Results) -> None:
    error = _run(fleet, runs)
    results.link = read_link(runs / fleet.name, fleet.job.rounds, error=error)


def _run_idle(fleet: Fleet, runs: Path, results: Results) -> None:
    results.idle = measure_idle(fleet, runs / fleet.name, QuietView())


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


def _print(results: Results) -> None:
    console = Console()
    if results.rows or results.small:
        console.print(devices_table(results))
    if results.link:
        link = results.link
        console.print(
            f"{BAD_LINK_TEXT} ({link.mechanism}): {link.rounds} of {link.wanted} rounds with "
            f"updates, {link.sent_bytes / 1e6:.2f} MB sent for {link.payload_bytes / 1e6:.2f} MB "
            f"of payload, {link.ratio:.3f} times (at most {MOST_RATIO})"
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
        caption=f"{sum(row.holds for row in rows)} of {len(rows)} hold (! = not): {ALL_HOLDS}; "
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
        percent_off(row.memory_error, holds=row.memory_holds),
        f"{row.predicted_round_s:.1f}",
        f"{row.round_s:.1f}",
        percent_off(row.time_error, holds=row.time_holds),
        kept,
    )
