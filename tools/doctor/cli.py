"""`fedsparse doctor`: every check in its order, each line as soon as it is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

STYLES: Final = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


def doctor(
    place: Annotated[
        Path, typer.Argument(metavar="JOB.TOML|FLEET", help="A job, or the folder of a fleet.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a document for programs.")] = False,
) -> None:
    """Say what is wrong with this gateway, and what to do about it.

    One line a check: `ok`, `warn` or `FAIL`, its name, what was found, and after `->` what to do.
    Nothing is changed. While the aggregator of a job runs, the broker is not spoken to in its name,
    which would throw it off. docs/operations.md explains the lines.

    Exit codes: 0 all is well, 1 there are warnings, 2 something fails.
    """
    import logging

    from rich.console import Console
    from rich.text import Text

    from fedsparse.doctor.row import document, exit_code
    from tools.doctor.gateway import gateway_rows

    logging.disable(logging.CRITICAL)  # what is wrong is told in lines of its own
    console = Console(highlight=False, soft_wrap=True)
    rows = []
    for row in gateway_rows(place):
        rows.append(row)
        if not as_json:
            text = Text(row.line)
            text.stylize(STYLES[row.verdict.value], 0, len(row.verdict.value))
            console.print(text)
    if as_json:
        typer.echo(json.dumps(document(rows), indent=2))
    raise typer.Exit(exit_code(rows))
