"""The demo's eight boards, from small to large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One emulated device of the demo.

    Attributes:
        device: its name in the fleet.
        profile: the board that it stands in for.
        memory_mib: a cap on what training may use, or None.
        note: why there is a cap.
    """

    device: str
    profile: str
    memory_mib: float | None = None
    note: str = ""


CAMERA_MIB: Final = 96.0

FLEET: Final = (
    Member(device="zero", profile="raspberry-pi-zero-2w"),
    Member(device="pi3", profile="raspberry-pi-3b-plus"),
    Member(
        device="zero-camera",
        profile="raspberry-pi-zero-2w",
        memory_mib=CAMERA_MIB,
        note="shares the board with a camera program",
    ),
    Member(device="pi4-2gb", profile="raspberry-pi-4b-2gb"),
    Member(device="pi4-8gb", profile="raspberry-pi-4b-8gb"),
    Member(device="pi5", profile="raspberry-pi-5-8gb"),
    Member(device="jetson-nano", profile="jetson-nano"),
    Member(device="jetson-orin", profile="jetson-orin-nano"),
)


def enlist(count: int, *, capped: bool = True) -> tuple[Member, ...]:
    """`count` devices (at least 1): evenly spread over the boards, or several of each above eight.

    Args:
        count: how many.
        capped: False lifts the memory caps, for a job in which everyone must take part.
    """
    size = len(FLEET)
    if count < size:
        chosen = [FLEET[(2 * index + 1) * size // (2 * count)] for index in range(count)]
    else:
        chosen = [_numbered(FLEET[index % size], index // size) for index in range(count)]
    return tuple(chosen if capped else map(_uncapped, chosen))


def _numbered(member: Member, repeat: int) -> Member:
    if repeat == 0:
        return member
    return Member(
        device=f"{member.device}-{repeat + 1}",
        profile=member.profile,
        memory_mib=member.memory_mib,
        note=member.note,
    )


def _uncapped(member: Member) -> Member:
    return Member(device=member.device, profile=member.profile)
