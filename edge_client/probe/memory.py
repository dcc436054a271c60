"""How much memory this process may really use: the system, its control groups, its own limit."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path("/")
KIB: Final = 1024
UNLIMITED: Final = 2**60  # cgroup v1 writes "no limit" as a number near 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """What was found; swap never counts.

    Attributes:
        total_bytes: fitted, or the smallest limit.
        available_bytes: what may still be used without swapping or being killed.
        source: what sets `available_bytes`.
        basis: `measured`, or what the profile of an emulated board says of its figure.
    """

    total_bytes: int
    available_bytes: int
    source: str
    basis: str = "measured"


def system_memory(root: Path = ROOT) -> MemoryReading:
    """Total and available memory as the kernel sees them (`/proc/meminfo`).

    Raises:
        OSError: the kernel does not tell.
    """
    figures = {}
    for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        figures[name] = rest.split()[0]
    try:
        total, available = (int(figures[name]) * KIB for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError) as error:
        raise OSError(f"/proc/meminfo: {error!r}") from error
    return MemoryReading(total_bytes=total, available_bytes=available, source="system")


def read_memory(
    system: Callable[[], MemoryReading] = system_memory, root: Path = ROOT
) -> MemoryReading:
    """The tightest of system, control groups (v2 and v1) and `RLIMIT_AS`.

    Args:
        system: reads the system's own figures.
        root: the folder that stands for `/`.
    """
    readings = [system(), *_control_groups(root), *_address_space()]
    tightest = min(readings, key=lambda reading: reading.available_bytes)
    return MemoryReading(
        total_bytes=min(reading.total_bytes for reading in readings),
        available_bytes=max(0, tightest.available_bytes),
        source=tightest.source,
    )


def _address_space() -> Iterator[MemoryReading]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        source = "RLIMIT_AS (address space: approximate)"
        yield MemoryReading(total_bytes=soft, available_bytes=soft, source=source)


def _control_groups(root: Path) -> Iterator[MemoryReading]:
    """One reading for each limit that applies: the process's group and all above it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        mount = root / "sys/fs/cgroup"
        if hierarchy == "0" and not controllers:
            names = ("memory.max", "memory.current", "inactive_file", "cgroup v2")
        elif "memory" in controllers.split(","):
            mount /= "memory"
            names = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
                "cgroup v1",
            )
        else:
            continue
        for folder in _upwards(mount, group):
            yield from _limit(folder, *names)


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """The folders from a group to the mount; in a container the outer ones do not exist."""
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _limit(
    folder: Path, limit_name: str, usage_name: str, cache_key: str, source: str
) -> Iterator[MemoryReading]:
    limit = _number(folder / limit_name)
    if limit is None or limit >= UNLIMITED:
        return
    usage = _number(folder / usage_name) or 0
    # The page cache is given back under pressure, so it does not count as used.
    used = max(0, usage - _entry(_text(folder / "memory.stat"), cache_key))
    yield MemoryReading(total_bytes=limit, available_bytes=limit - used, source=source)


def _entry(stat: str, key: str) -> int:
    for line in stat.splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """A small system file; empty where it does not exist or may not be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
