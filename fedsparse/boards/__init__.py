"""Board profiles: what is known of a device's means, each figure with its basis and its source."""

from fedsparse.boards.figure import BASES, ESTIMATED, MEASURED, SPECIFIED, Figure
from fedsparse.boards.profile import MAX_TEXT, NAME, Board, Compute, Memory, Network, Storage
from fedsparse.boards.shelf import board_names, check_own_board, load_board

__all__ = [
    "BASES",
    "ESTIMATED",
    "MAX_TEXT",
    "MEASURED",
    "NAME",
    "SPECIFIED",
    "Board",
    "Compute",
    "Figure",
    "Memory",
    "Network",
    "Storage",
    "board_names",
    "check_own_board",
    "load_board",
]
