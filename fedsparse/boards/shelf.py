"""Where profiles are: those that ship with the package, by name, and any other by its path."""

from __future__ import annotations

import difflib
import re
from datetime import date, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from typing import Final

from fedsparse.boards.profile import NAME, Board
from fedsparse.config import load
from fedsparse.errors import ConfigError

SUFFIX: Final = ".toml"
HERE: Final = Path()
ZONES: Final = timedelta(days=1)  # somewhere it is tomorrow already


def board_names() -> tuple[str, ...]:
    """The profiles that ship with the package, sorted, 4 GB before 16."""
    files = (entry.name for entry in resources.files("profiles").iterdir())
    names = [file.removesuffix(SUFFIX) for file in files if file.endswith(SUFFIX)]
    return tuple(sorted(names, key=_numbers_by_size))


def load_board(
    name_or_path: str | Path, *, folder: Path = HERE, today: date | None = None
) -> Board:
    """Load a shipped profile by its name, or any profile by the path of its `.toml` file.

    Args:
        name_or_path: what ends with `.toml` or has a `/` in it is a path.
        folder: from which a relative path is taken.
        today: by default the clock's; no figure of a file may be of a later date.

    Raises:
        ConfigError: no such profile (the nearest names are given), or the file is invalid, is not
            named as the board in it, or gives a shipped board's name to other figures.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(SUFFIX) or "/" in text:
        return _load_own(folder / text, today or datetime.now(tz=timezone.utc).date())
    if text not in board_names():
        raise ConfigError(f"unknown board '{text}'{_suggest(text, folder)}")
    return _load_shipped(text)


def check_own_board(board: Board, path: Path, today: date) -> None:
    """Hold a board that is not shipped against its file's name, the shipped ones and the clock.

    Args:
        board: as it is, or will be, in the file.
        path: of the file.
        today: no figure may be of a later date.

    Raises:
        ConfigError: what does not fit, and what to do.
    """
    if board.name != path.stem:
        raise ConfigError(
            f"{path}: the board in it is named '{board.name}': rename the file to "
            f"{board.name}{SUFFIX}, or the board to '{path.stem}'"
        )
    if board.name in board_names() and board != _load_shipped(board.name):
        raise ConfigError(
            f"{path}: '{board.name}' is a shipped board with other figures: rename this one"
        )
    for key, figure in board.figures():
        if figure is not None and figure.date > (today + ZONES).isoformat():
            raise ConfigError(
                f"{path}: {key}: date {figure.date} is in the future; this machine's clock says "
                f"{today.isoformat()}: correct the one or the other"
            )


def _numbers_by_size(name: str) -> list[str]:
    return [part.zfill(8) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _load_shipped(name: str) -> Board:
    with resources.as_file(resources.files("profiles") / f"{name}{SUFFIX}") as path:
        return load(Board, path)


def _load_own(path: Path, today: date) -> Board:
    board = load(Board, path)
    check_own_board(board, path, today)
    return board


def _suggest(name: str, folder: Path) -> str:
    known = board_names()
    if NAME.fullmatch(name) and (folder / f"{name}{SUFFIX}").is_file():
        return f"; for the file of that name, write '{name}{SUFFIX}'"
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    near = [one for one in known if wanted in one] if wanted else []
    near = near[:4] or difflib.get_close_matches(wanted, known, n=2, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(repr(one) for one in near)}?"
    return f"; known boards: {', '.join(known)}; or give the path of a .toml profile"
