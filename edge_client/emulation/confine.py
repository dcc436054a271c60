"""`confine`: the limits of a board, or of your own, around processes.

with confine("raspberry-pi-zero-2w", scale=4) as place:
process = place.start(["edge-client", "run", "client.toml"])
...
print(place.report(), place.usage())
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from typing import Final

from edge_client.emulation.belongings import Belongings, end_left_overs
from edge_client.emulation.board_limits import open_board
from edge_client.emulation.cpu import hold_cpu
from edge_client.emulation.groups import Groups, open_groups
from edge_client.emulation.host_speed import HostSpeed
from edge_client.emulation.limits import FROM_BOARD, Asked, Limits, Wishes, limits_of
from edge_client.emulation.link import Link
from edge_client.emulation.memory import hold_memory
from edge_client.emulation.names import new_name
from edge_client.emulation.network import hold_link
from edge_client.emulation.place import Holds, Place
from edge_client.emulation.report import Mechanism, Resource
from edge_client.emulation.scale import TimeScale
from edge_client.emulation.watch import WATCH
from fedsparse.boards import Board

CONTROLLERS: Final = {"memory": Resource.MEMORY, "cpu": Resource.CPU}


def confine(
    board: Board | str | None = None,
    *,
    scale: TimeScale | float = 1.0,
    memory: int | Asked = FROM_BOARD,
    cpu: float | Asked = FROM_BOARD,
    cores: int = 1,
    link: Link | Asked = FROM_BOARD,
    host: HostSpeed | None = None,
    avoid: Collection[Mechanism] = (),
) -> Place:
    """Open a place; a context manager that closes it.

    Args:
        board: a profile, its name or its path; None = only what is given limits anything.
        scale: seconds of the board in a second of this host; one for a whole fleet.
        memory: bytes, or None for no limit.
        cpu: share of one of this host's processors for each core, or None for no limit. The
            profile's is its speed, times the scale, divided by this host's speed.
        cores: of the board that may be used; one, as for a trainer with one thread.
        link: in the board's seconds, or None for no limit.
        host: this host's speed; None = as measured, once (some seconds).
        avoid: mechanisms not to use.

    Raises:
        ConfigError: there is no such board.
        EmulationError: this host cannot do it; the message says what can be done.
    """
    profile = None if board is None else open_board(board)
    time_scale = scale if isinstance(scale, TimeScale) else TimeScale(factor=scale)
    wishes = Wishes(memory=memory, cpu=cpu, cores=cores, link=link, host=host)
    limits = limits_of(profile, time_scale, wishes)
    return _open(profile.name if profile else None, time_scale, limits, avoid)


def _open(
    board: str | None, scale: TimeScale, limits: Limits, avoid: Collection[Mechanism]
) -> Place:
    end_left_overs()
    name = new_name()
    with ExitStack() as stack:
        WATCH.open(Belongings(place=name))
        stack.callback(WATCH.closed, name)
        groups = open_groups(name, _controllers(limits), avoid=avoid)
        belongings = Belongings(place=name, groups=tuple(groups.each()))
        stack.callback(belongings.remove)
        WATCH.open(belongings)
        place = Place(name, board, scale, groups, _holds(name, scale, limits, groups, avoid, stack))
        stack.pop_all()  # from here on they are the place's
    return place


def _controllers(limits: Limits) -> list[str]:
    wanted = {"memory": limits.memory_bytes, "cpu": limits.cpu}
    return [controller for controller, limit in wanted.items() if limit is not None]


def _holds(
    name: str,
    scale: TimeScale,
    limits: Limits,
    groups: Groups,
    avoid: Collection[Mechanism],
    stack: ExitStack,
) -> Holds:
    memory = hold_memory(
        limits.memory_bytes,
        groups.by_controller.get("memory"),
        facts=limits.facts.get(Resource.MEMORY, {}),
        refusals=groups.refusals.get("memory", ()),
        avoid=avoid,
    )
    cpu = hold_cpu(
        limits.cpu,
        groups,
        place=name,
        facts=limits.facts.get(Resource.CPU, {}),
        reason=limits.reasons[Resource.CPU],
        avoid=avoid,
    )
    stack.callback(cpu.close)
    link = hold_link(
        limits.link,
        scale,
        place=name,
        facts=limits.facts.get(Resource.LINK, {}),
        reason=limits.reasons[Resource.LINK],
        avoid=avoid,
    )
    stack.callback(link.close)
    return Holds(memory=memory, cpu=cpu, link=link)
