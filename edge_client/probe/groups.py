"""The control groups whose limits a process is under: its own, and all above it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

MOUNT: Final = "sys/fs/cgroup"
MEMBERSHIP: Final = "proc/self/cgroup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One folder of limits; `version` is that of its hierarchy, 1 or 2."""

    version: int
    folder: Path


def control_groups(root: Path, controller: str) -> Iterator[Group]:
    """The groups that may limit this process by `controller`, each hierarchy from the inside out.

    Args:
        root: the folder that stands for `/`.
        controller: `memory` or `cpu`.
    """
    mount = root / MOUNT
    for line in _membership(root):
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            yield from (Group(version=2, folder=one) for one in _upwards(mount, group))
        elif controller in controllers.split(","):
            # `cpu` and `cpuacct` are often mounted together, under both names.
            named = mount / controller
            joined = named if named.is_dir() else mount / controllers
            yield from (Group(version=1, folder=one) for one in _upwards(joined, group))


def _membership(root: Path) -> list[str]:
    try:
        text = (root / MEMBERSHIP).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """The folders from a group to the mount; in a container the outer ones do not exist."""
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])
