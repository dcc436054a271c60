"""What a board's profile says, as limits. The only place here that reads profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_client.emulation.report import Parameter
from fedsparse.boards import Board, Figure, load_board

MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourced:
    """A figure in base units, with what a report says of it.

    Attributes:
        value: bytes, multiply-adds per second, or bytes per second.
        basis: `measured`, `specified` or `estimated`.
    """

    value: float
    basis: str


def open_board(board: Board | str) -> Board:
    """A profile, or the one of this name or path.

    Raises:
        ConfigError: there is none; near names are given.
    """
    return load_board(board) if isinstance(board, str) else board


def memory_of(board: Board) -> tuple[int, dict[str, Parameter]]:
    """Bytes that an idle system leaves to processes; all that is fitted, where that is unknown."""
    available = board.memory.available_mib
    figure = available or board.memory.total_mib
    what = "available_mib" if available else "total_mib; what the system leaves is unknown"
    return int(figure.value * MIB), {"figure": f"memory.{what}", "basis": figure.basis}


def speed_of(board: Board) -> Sourced | None:
    """Multiply-adds per second of one thread that trains; None where nobody knows."""
    return _sourced(board.speed)


def cores_of(board: Board) -> int:
    """Processor cores."""
    return int(board.cores.value)


def rates_of(board: Board) -> tuple[Sourced | None, Sourced | None]:
    """Bytes per second from and to the board, as its network port or radio has them."""
    return _sourced(board.network.up_bytes_per_s), _sourced(board.network.down_bytes_per_s)


def _sourced(figure: Figure | None) -> Sourced | None:
    return None if figure is None else Sourced(value=figure.value, basis=figure.basis)
