"""The command `fedsparse emulate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tools.emulate.outcome import Outcome


def emulate(
    fleet: Annotated[
        str | None, typer.Option(help="A fleet file, or the name of one that ships (--list).")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="What happens to devices: a file, or a name (--list).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for everything; by default out/emulate/NAME.")
    ] = None,
    time_scale: Annotated[float | None, typer.Option(help="In place of the fleet file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the fleet file's.")] = None,
    show: Annotated[
        bool, typer.Option("--list", help="List the fleets and scenarios that ship.")
    ] = False,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Table or plain lines.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run a fleet of real clients, each under the limits of its board (docs/emulate.md).

    Exit codes: 0 the job is done; 1 the run broke off, and what happened until then is in the
    output folder; 2 a file is at fault, or this host cannot be this fleet; 130 Ctrl-C; 143 SIGTERM.
    """
    if show:
        _list()
        return
    if fleet is None:
        raise typer.BadParameter("give --fleet, a file or a name; --list has those that ship")
    from dataclasses import replace

    from fedsparse.errors import ConfigError
    from tools.demo.views import open_view
    from tools.emulate.fleet_file import load_fleet
    from tools.emulate.run import run_fleet
    from tools.emulate.scenario_file import load_scenario
    from tools.emulate.shipped import FLEETS, SCENARIOS, found_file

    with found_file(FLEETS, fleet) as path:
        found = load_fleet(path)
    try:
        found = replace(
            found,
            time_scale=found.time_scale if time_scale is None else time_scale,
            seed=found.seed if seed is None else seed,
        )
    except ValueError as error:
        raise ConfigError(f"the command line: {error}") from error
    events = None
    if scenario is not None:
        with found_file(SCENARIOS, scenario) as path:
            events = load_scenario(path, found)
    folder = output or Path("out/emulate") / found.name
    outcome = run_fleet(found, events, folder, open_view(live=live))
    typer.echo(json.dumps(outcome.summary, indent=2) if as_json else _text(outcome))


def _list() -> None:
    from tools.emulate.shipped import FLEETS, SCENARIOS, shipped

    for kind in (FLEETS, SCENARIOS):
        typer.echo(f"{kind}:")
        for name, title in shipped(kind).items():
            typer.echo(f"  {name:<16} {title}")


def _text(outcome: Outcome) -> str:
    from tools.emulate.limits_table import limits_lines

    summary: dict[str, Any] = outcome.summary
    emulation = summary["emulation"]
    lines = ["", f"  time scale {emulation['time_scale_why']}", ""]
    lines += [f"  {line}" for line in limits_lines(emulation["devices"])]
    lines += ["", f"  {summary['rounds']} rounds in {summary['wall_s']:.0f} s of this host"]
    lines += [
        f"  did not happen: {one['kind']} of {one['device']}: {one['why']}"
        for one in emulation["did_not_happen"]
    ]
    lines += [f"  timeline {outcome.timeline_file}", f"  figures  {outcome.summary_file}"]
    return "\n".join(lines)
