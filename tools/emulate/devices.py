"""The devices of a fleet: names, boards, limits, and where each figure is from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge_client.emulation.board_limits import Sourced, memory_of, open_board, rates_of, speed_of
from edge_client.emulation.link import Link
from edge_client.emulation.scale import TimeScale
from fedsparse.boards import Board, Figure
from fedsparse.errors import ConfigError
from tools.demo.toml_writer import to_toml
from tools.emulate.fleet_file import MEASURED, PROFILE, Fleet, Group, LinkTable

MIB: Final = 2**20
FILE: Final = "fleet.toml"  # the basis of a figure that the user gave
NAME_LENGTH: Final = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device.

    Attributes:
        name: in the fleet.
        group: what it is one of.
        board: its profile.
        link: in the board's seconds; a cable without limits where nobody knows the rates.
        seed: of its link's losses, as far as a proxy plays them.
    """

    name: str
    group: Group
    board: Board
    link: Link
    seed: int

    @property
    def memory_bytes(self) -> int:
        """What its processes may take together."""
        if self.group.memory_mib is not None:
            return int(self.group.memory_mib * MIB)
        return memory_of(self.board)[0]

    @property
    def has_boards_link(self) -> bool:
        """Whether its link is what the board's profile says, and no more."""
        return self.group.link is None and any(rates_of(self.board))

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """What its limits are scaled from, in the board's units, and the basis of each."""
        memory, facts = memory_of(self.board)
        own = self.group.memory_mib is not None
        up, down = rates_of(self.board)
        table = self.group.link
        return {
            "memory_bytes": {
                "value": self.memory_bytes if own else memory,
                "basis": FILE if own else facts["basis"],
            },
            "multiply_adds_per_s": _shown(speed_of(self.board)),
            "up_bytes_per_s": _rate(table.up_bytes_per_s if table else None, up),
            "down_bytes_per_s": _rate(table.down_bytes_per_s if table else None, down),
        }


def devices_of_fleet(fleet: Fleet) -> tuple[Device, ...]:
    """All devices, in the file's order."""
    found: list[Device] = []
    for group in fleet.groups:
        board = open_board(group.board)
        for name in group.devices:
            seed = 1000 * fleet.seed + len(found)
            link = replace(_link(group, board), seed=seed)
            found.append(Device(name=name, group=group, board=board, link=link, seed=seed))
    return tuple(found)


def check_known(fleet: Fleet) -> None:
    """Raises `ConfigError` where a client is to believe a profile that does not say enough."""
    if fleet.figures != PROFILE:
        return
    for group in fleet.groups:
        board = open_board(group.board)
        lacks = [] if speed_of(board) else ["how fast it trains"]
        if board.memory.available_mib is None and group.memory_mib is None:
            lacks.append("what memory its system leaves (or give memory_mib)")
        if lacks:
            raise ConfigError(
                f"the group '{group.name}': the profile of {board.name} does not say "
                f'{" nor ".join(lacks)}; with figures = "{MEASURED}" devices measure themselves'
            )


def believed_board(device: Device, scale: TimeScale) -> Board:
    """What a client takes itself for: its board, in the scaled time in which it lives.

    Speed and rates are per second of this host's clock, which is the one that the client reads.
    """
    speed, (up, down) = speed_of(device.board), rates_of(device.board)
    link = device.link
    compute = replace(device.board.compute, multiply_adds_per_s=_scaled(device.board, speed, scale))
    network = replace(
        device.board.network,
        up_bytes_per_s=_known(device, link.up_bytes_per_s, up, scale),
        down_bytes_per_s=_known(device, link.down_bytes_per_s, down, scale),
    )
    memory = device.board.memory
    if device.group.memory_mib is not None:
        source = "the fleet file's memory_mib"
        memory = replace(
            memory,
            available_mib=replace(memory.total_mib, value=device.group.memory_mib, source=source),
        )
    return replace(
        device.board, name=_name(device), memory=memory, compute=compute, network=network
    )


def write_believed(device: Device, scale: TimeScale, folder: Path) -> str:
    """Write what a client takes itself for, one file for all that are alike; returns its path."""
    board = believed_board(device, scale)
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(2):
        path, text = folder / f"{board.name}.toml", to_toml(board)
        if not path.exists():
            path.write_text(text, encoding="utf-8")
        if path.read_text(encoding="utf-8") == text:
            break
        board = replace(board, name=f"{_name(device)[: NAME_LENGTH - 5]}-{number}")
    return str(path)


def _name(device: Device) -> str:
    """Of its group and its board, as boards may be named."""
    words = re.sub("[^a-z0-9]+", "-", f"{device.group.name}-{device.board.name}".lower())
    return words.strip("-")[:NAME_LENGTH]


def _link(group: Group, board: Board) -> Link:
    up, down = rates_of(board)
    return (group.link or LinkTable()).link(
        up_bytes_per_s=up.value if up else None, down_bytes_per_s=down.value if down else None
    )


def _scaled(board: Board, speed: Sourced | None, scale: TimeScale) -> Figure | None:
    if speed is None:
        return None
    return replace(
        board.cores,
        value=scale.host_rate(speed.value),
        basis=speed.basis,
        source=f"the profile's speed, at {scale.factor:g} times the board's time",
    )


def _known(
    device: Device, rate: float | None, own: Sourced | None, scale: TimeScale
) -> Figure | None:
    if rate is None:
        return None
    is_boards = own is not None and own.value == rate
    return replace(
        device.board.cores,
        value=scale.host_rate(rate),
        basis=own.basis if own is not None and is_boards else "specified",
        source=f"{'the profile' if is_boards else FILE}, at {scale.factor:g} times the time",
    )


def _rate(own: float | None, boards: Sourced | None) -> dict[str, Any]:
    return {"value": own, "basis": FILE} if own is not None else _shown(boards)


def _shown(figure: Sourced | None) -> dict[str, Any]:
    if figure is None:
        return {"value": None, "basis": "unknown"}
    return {"value": figure.value, "basis": figure.basis}
