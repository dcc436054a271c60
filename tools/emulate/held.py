"""Whether the kernel still holds a process to the limits of its place."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from edge_client.emulation.place import Place
from edge_client.emulation.report import Mechanism, Resource

GROUPS: Final = (Mechanism.CGROUP_2, Mechanism.CGROUP_1)
LIMITED: Final = (Resource.MEMORY, Resource.CPU)
PROC: Final = Path("/proc")


def is_limited(pid: int, place: Place, proc: Path = PROC) -> bool:
    """False where a process is not in the control groups that are to limit it.

    Args:
        pid: of the client; one that has ended is limited enough.
        place: where it was started.
        proc: the folder that stands for `/proc`.
    """
    report = place.report()
    held = [one for one in LIMITED if report.of(one).mechanism in GROUPS]
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return True
    return all(in_group(lines, place.name, one, report.of(one).mechanism) for one in held)


def in_group(lines: list[str], place: str, resource: Resource, mechanism: Mechanism) -> bool:
    """Whether `/proc/PID/cgroup` has the process in the place's group for a resource."""
    for line in lines:
        with suppress(ValueError):
            _, controllers, path = line.split(":", 2)
            mine = (
                controllers == ""
                if mechanism is Mechanism.CGROUP_2
                else resource.value in controllers.split(",")
            )
            if mine:
                return place in path
    return False
