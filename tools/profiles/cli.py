"""`fedsparse profiles`: list the boards, show one, write one's profile from its measurements."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final

import typer

from fedsparse.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Boards: what is known of them, and on what grounds.")

STANDARD_INPUT: Final = "-"
BoardsArgument = list[str] | None


@app.command("list")
def list_boards(
    boards: Annotated[
        BoardsArgument,
        typer.Argument(help="Names, or paths of .toml profiles; by default all that ship."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """List boards: cores, memory, speed and link, each with its basis."""
    from rich.console import Console

    from fedsparse.boards import board_names, load_board
    from tools.profiles.views import board_document, board_table

    loaded = [load_board(one) for one in boards or board_names()]
    names = [board.name for board in loaded]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two boards of the same name: {', '.join(twice)}")
    if as_json:
        typer.echo(json.dumps([board_document(board) for board in loaded], indent=2))
        return
    console = Console()
    console.print(board_table(loaded, console.width))


@app.command()
def show(
    board: Annotated[str, typer.Argument(help="A name of the list, or the path of a profile.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show every figure of a board with its basis, date and source, and what is unknown."""
    from rich.console import Console

    from fedsparse.boards import load_board
    from tools.profiles.views import board_document, print_board

    loaded = load_board(board)
    if as_json:
        typer.echo(json.dumps(board_document(loaded), indent=2))
    else:
        print_board(Console(highlight=False), loaded)


@app.command()
def new(
    probe: Annotated[
        str, typer.Argument(help="What `edge-client profile --json` printed there; - is stdin.")
    ],
    name: Annotated[
        str, typer.Option(help="Of the profile; default: the output's, else the board's model.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: the name, with .toml.")
    ] = None,
    date: Annotated[
        str, typer.Option(help="When it was measured, YYYY-MM-DD, if the board's clock was wrong.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Write the profile of a board that measured itself.

    ssh pi edge-client profile --json | fedsparse profiles new - --name my-pi

    Every figure is marked as measured; what the board did not know is left out.
    """
    from fedsparse.boards import NAME
    from tools.profiles.document import parse_document
    from tools.profiles.making import make_board
    from tools.profiles.writing import write_profile

    name = name or (output.stem if output else "")
    if name and not NAME.fullmatch(name):
        raise ConfigError(f"the name '{name}' is not 1 to 48 lower-case letters, digits or '-'")
    if date and not _is_day(date):
        raise ConfigError(f"--date {date}: expected a day such as 2026-11-23")
    today = datetime.now(tz=timezone.utc).date()
    document = parse_document(_read(probe), "standard input" if probe == STANDARD_INPUT else probe)
    made = make_board(document, today, name=name, day=date)
    path = output or Path(f"{made.board.name}.toml")
    write_profile(made.board, path, today, force=force)
    for note in made.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(str(path))


def _is_day(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).date().isoformat() == text
    except ValueError:
        return False


def _read(probe: str) -> bytes:
    if probe == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(probe).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{probe}: cannot be read: {reason}") from error
