"""What a place is to have, in this host's terms, and where each figure is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from edge_client.emulation.board_limits import cores_of, memory_of, rates_of, speed_of
from edge_client.emulation.cpu import CpuShare
from edge_client.emulation.errors import EmulationError
from edge_client.emulation.host_speed import HostSpeed, host_speed
from edge_client.emulation.link import Link
from edge_client.emulation.report import Parameter, Resource
from edge_client.emulation.scale import TimeScale
from fedsparse.boards import Board


class FromBoard(Enum):
    """Stands for what a board's profile says."""

    PROFILE = "what the board's profile says"


FROM_BOARD: Final = FromBoard.PROFILE
Asked: TypeAlias = FromBoard | None
NOT_ASKED: Final = "no limit was asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a place is to have; None = no limit.

    Attributes:
        memory_bytes: without swap.
        cpu: of this host's processors.
        link: in the board's seconds.
        facts: where each figure is from, for the report.
        reasons: why there is no limit, where there is none.
    """

    memory_bytes: int | None
    cpu: CpuShare | None
    link: Link | None
    facts: dict[Resource, dict[str, Parameter]] = field(default_factory=dict)
    reasons: dict[Resource, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked for, each figure or the profile's.

    Attributes:
        memory: bytes.
        cpu: share of one of this host's processors for each core.
        cores: of the board that may be used; None = one.
        link: in the board's seconds.
        host: the speed that the board's is scaled against; None = as measured.
    """

    memory: int | Asked = FROM_BOARD
    cpu: float | Asked = FROM_BOARD
    cores: int = 1
    link: Link | Asked = FROM_BOARD
    host: HostSpeed | None = None


def limits_of(board: Board | None, scale: TimeScale, wishes: Wishes) -> Limits:
    """The limits of a place.

    Args:
        board: None = only what is given limits anything.
        scale: how fast the board's time goes by.
        wishes: what was asked for.

    Raises:
        EmulationError: this host is too slow for the board at this scale, or cannot be measured.
    """
    facts: dict[Resource, dict[str, Parameter]] = {one: {} for one in Resource}
    reasons = dict.fromkeys(Resource, NOT_ASKED)
    memory = None if isinstance(wishes.memory, FromBoard) else wishes.memory
    cpu = (
        None
        if wishes.cpu is None or isinstance(wishes.cpu, FromBoard)
        else CpuShare(per_core=wishes.cpu, cores=wishes.cores)
    )
    link = None if isinstance(wishes.link, FromBoard) else wishes.link
    if board is not None:
        if wishes.memory is FROM_BOARD:
            memory, facts[Resource.MEMORY] = memory_of(board)
        if wishes.cpu is FROM_BOARD:
            cpu, facts[Resource.CPU] = board_share(board, scale, wishes.cores, wishes.host)
            reasons[Resource.CPU] = f"nobody knows how fast {board.name} trains"
        if wishes.link is FROM_BOARD:
            link, facts[Resource.LINK] = board_link(board)
            reasons[Resource.LINK] = f"nobody knows the rates of {board.name}'s network"
    return Limits(memory_bytes=memory, cpu=cpu, link=link, facts=facts, reasons=reasons)


def board_share(
    board: Board, scale: TimeScale, cores: int = 1, host: HostSpeed | None = None
) -> tuple[CpuShare | None, dict[str, Parameter]]:
    """Processor time that makes this host as fast as a board; None where its speed is unknown."""
    speed = speed_of(board)
    if speed is None:
        return None, {}
    if cores > cores_of(board):
        raise EmulationError(f"{board.name} has {cores_of(board)} cores, not {cores}")
    here = host or host_speed()
    share = CpuShare(per_core=scale.host_rate(speed.value) / here.multiply_adds_per_s, cores=cores)
    return share, {
        "board_multiply_adds_per_s": speed.value,
        "basis": speed.basis,
        "host_multiply_adds_per_s": here.multiply_adds_per_s,
        "host_basis": here.basis,
    }


def board_link(board: Board) -> tuple[Link | None, dict[str, Parameter]]:
    """A link with the rates of a board's network; None where neither is known."""
    up, down = rates_of(board)
    if up is None and down is None:
        return None, {}
    link = Link(
        up_bytes_per_s=up.value if up else None, down_bytes_per_s=down.value if down else None
    )
    known = up or down
    return link, {"basis": known.basis if known else None}


def largest_scale(
    boards: Sequence[Board], processors: float, host: HostSpeed | None = None
) -> TimeScale:
    """How fast time may go by for a fleet, so that this host keeps up with all of it at once.

    Args:
        boards: each with one core in use; those of unknown speed do not count.
        processors: of this host, that the fleet may take.
        host: the speed of one of them; None = as measured.

    Raises:
        EmulationError: no board's speed is known, or this host cannot be measured.
    """
    here = host or host_speed()
    speeds = [speed.value for board in boards if (speed := speed_of(board)) is not None]
    if not speeds:
        raise EmulationError("no board's speed is known, so any time scale will do: choose one")
    shares = [speed / here.multiply_adds_per_s for speed in speeds]
    return TimeScale(factor=min(processors / sum(shares), 1 / max(shares)))
