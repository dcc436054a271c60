"""Profiles as tables, as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedsparse.boards import ESTIMATED, MEASURED, SPECIFIED, Board, Figure

MARKS: Final = {MEASURED: "meas.", SPECIFIED: "spec.", ESTIMATED: "est."}
LEGEND: Final = (
    "meas. measured, spec. specified by the maker, est. estimated; speed: multiply-adds a second "
    "of one training thread; link: up, below it down where it differs"
)
TITLES_FROM: Final = 112  # columns, below which the names have to do
LONGEST_NAME: Final = 20  # of a shipped board
SPEED: Final = "compute.multiply_adds_per_s"
SCALES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
# A key's ending -> what its figure is in, and whether that is counted in thousands.
UNITS: Final = {
    "_mib": ("MiB", False),
    "_bytes_per_s": ("B/s", True),
    "_adds_per_s": (" multiply-adds/s", True),
    "_hz": ("Hz", True),
    "_flops": ("FLOPS", True),
    "_per_cycle": ("lanes of 32 bits", False),
}


def board_document(board: Board) -> dict[str, Any]:
    """A profile for programs: null is unknown; `speed` is its own figure or an estimate."""
    speed = board.speed
    return {
        **dataclasses.asdict(board),
        "speed": None if speed is None else dataclasses.asdict(speed),
        "can_be_emulated": not lacks(board),
    }


def board_table(boards: Iterable[Board], width: int) -> Table:
    """One row a board.

    Args:
        boards: in their order.
        width: of the terminal, in columns.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption=LEGEND,
        caption_justify="left",
    )
    table.add_column("board", overflow="fold", min_width=LONGEST_NAME)
    if width >= TITLES_FROM:
        table.add_column("", overflow="fold")
    table.add_column("cores", justify="right", no_wrap=True)
    table.add_column("MiB", justify="right", no_wrap=True)
    table.add_column("available", justify="right", no_wrap=True)
    table.add_column("speed", justify="right", no_wrap=True)
    table.add_column("link", justify="right", no_wrap=True)
    for board in boards:
        cells = [
            board.name,
            *([board.title] if width >= TITLES_FROM else []),
            f"{board.cores.value:g}",
            f"{board.memory.total_mib.value:.0f}",
            _marked(board.memory.available_mib, "_mib", " MiB"),
            _marked(board.speed, "_adds_per_s", " multiply-adds/s"),
            _link(board),
        ]
        table.add_row(*map(Text, cells))
    return table


def print_board(console: Console, board: Board) -> None:
    """Every figure with basis, date and source; what is unknown; whether it can be emulated."""
    console.print(Text(f"{board.title} ({board.name})", style="bold"))
    console.print(Text(board.cpu))
    if board.compute.pipeline:
        console.print(Text(f"{board.compute.pipeline} cores"))
    unknown = []
    for key, figure in board.figures():
        shown = board.speed if key == SPEED else figure
        if shown is None:
            unknown.append(key)
            continue
        console.print()
        line = f"{key:<28} {amount(shown.value, key):<25} {shown.basis:<9}  {shown.date}"
        console.print(Text(line), soft_wrap=True)
        console.print(Padding(Text(shown.source), (0, 0, 0, 4), expand=False))
    console.print()
    if unknown:
        console.print(Text(f"unknown: {', '.join(unknown)}"))
    if missing := lacks(board):
        console.print(Text(f"cannot be emulated without {' and '.join(missing)}"))


def amount(value: float, key: str) -> str:
    """A value with its unit, in thousands where people count so: `1.30 GB/s`, `2048 MiB`.

    Args:
        value: of the key.
        key: of a profile, or its ending.
    """
    unit, is_scaled = next((UNITS[end] for end in UNITS if key.endswith(end)), ("", False))
    if not is_scaled:
        return f"{value:g} {unit}".strip()
    size, prefix = next((scale for scale in SCALES if value >= scale[0]), (1.0, ""))
    return f"{_three_digits(value / size)} {prefix}{unit}"


def lacks(board: Board) -> list[str]:
    """The figures without which a board cannot be emulated, of those that are unknown."""
    needed = {"memory.available_mib": board.memory.available_mib, SPEED: board.speed}
    return [key for key, figure in needed.items() if figure is None]


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _marked(figure: Figure | None, key: str, without: str = "") -> str:
    """A cell: the amount, without what the column's head says, and its basis."""
    if figure is None:
        return "unknown"
    return f"{amount(figure.value, key).removesuffix(without)} {MARKS[figure.basis]}"


def _link(board: Board) -> str:
    """Two lines where the directions differ."""
    up, down = board.network.up_bytes_per_s, board.network.down_bytes_per_s
    directions = [up] if up == down else [up, down]
    return "\n".join(_marked(one, "_bytes_per_s") for one in directions)
