"""A profile to its file, and back again to be sure."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final

from fedsparse.boards import Board, check_own_board, load_board
from fedsparse.durable import write_durably
from fedsparse.errors import ConfigError
from tools.demo.toml_writer import to_toml

SUFFIX: Final = ".toml"
HEADER: Final = """\
# Written by `fedsparse profiles new` from what the board measured of itself; what is not here is
# unknown. docs/profiles.md says what may be added.
"""


def write_profile(board: Board, path: Path, today: date, *, force: bool = False) -> None:
    """Write a profile that can be loaded.

    Args:
        board: whose it is.
        path: NAME.toml.
        today: no figure may be of a later date.
        force: overwrite what is there.

    Raises:
        ConfigError: the file is there, cannot be written, or would not be one that loads.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path}: the file of a profile ends with {SUFFIX}")
    check_own_board(board, path, today)
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists already; give another --output, or --force")
    try:
        write_durably(path, (HEADER + to_toml(board)).encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    if load_board(path, today=today) != board:
        raise ConfigError(f"{path}: what was written reads differently; please report this")
