"""`fedsparse devices`: what is known of the devices of a job, and what each decided last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from aggregator.devices import DeviceRecord, read_devices
from aggregator.events import EVENTS

FORMAT: Final = "{:<20}  {:<8}  {:>6}  {:>6}  {}"
HEADS: Final = ("device", "", "round", "level", "why")


def devices(
    job: Annotated[Path, typer.Argument(help="The job; it may run or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a document for programs.")] = False,
) -> None:
    """Show the devices of a job: who is there, at which level, and why."""
    from aggregator.job import JobConfig  # it takes a while
    from fedsparse.config import load

    found = read_devices(load(JobConfig, job).output / EVENTS)
    if as_json:
        typer.echo(json.dumps({name: asdict(one) for name, one in found.items()}, indent=2))
        return
    for line in _lines(list(found.values())):
        typer.echo(line.rstrip())


def _lines(found: list[DeviceRecord]) -> Iterator[str]:
    if not found:
        yield "No device has come yet: start one with `edge-client run client.toml`."
        return
    yield FORMAT.format(*HEADS)
    for one in found:
        level = "-" if one.level is None else f"{one.level:g}"
        yield FORMAT.format(
            one.device,
            "online" if one.online else "offline",
            one.round_id if one.job else "-",
            level,
            one.reason if one.job else "no decision yet",
        )
