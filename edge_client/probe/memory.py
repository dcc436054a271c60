"""How much memory this process may really use: the system, its control groups, its own limit."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.probe.groups import control_groups
from edge_client.probe.kernel_files import ROOT, KernelFiles

KIB: Final = 1024
UNLIMITED: Final = 2**60  # cgroup v1 writes "no limit" as a number near 2**63
# Of a hierarchy's version: limit, usage, what is page cache, what it is called.
FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "cgroup v1"),
    2: ("memory.max", "memory.current", "inactive_file", "cgroup v2"),
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapReading:
    """What may be swapped to, which is reported and never counts as memory; None is unknown.

    Attributes:
        swap_bytes: of all swap spaces, those in compressed memory too.
        zram_bytes: uncompressed size of the disks of compressed memory.
        unknown: what could not be read, and why.
    """

    swap_bytes: int | None
    zram_bytes: int | None
    unknown: tuple[str, ...]


def system_memory(root: Path = ROOT) -> MemoryReading:
    """Total and available memory as the kernel sees them (`/proc/meminfo`).

    Raises:
        OSError: the kernel does not tell, or tells what cannot be.
    """
    figures = _meminfo((root / "proc/meminfo").read_text(encoding="ascii", errors="replace"))
    total, available = (figures.get(name) for name in ("MemTotal", "MemAvailable"))
    if total is None or available is None or not 0 < total < UNLIMITED or available > total:
        raise OSError(f"/proc/meminfo: {available} of {total} bytes available")
    return MemoryReading(total_bytes=total, available_bytes=available, source="system")


def read_swap(root: Path = ROOT) -> SwapReading:
    """Swap, and what of it is compressed memory.

    Args:
        root: the folder that stands for `/`.
    """
    files = KernelFiles(root)
    swap = _meminfo(files.text("proc/meminfo") or "").get("SwapTotal")
    if swap is None:
        files.lack("swap", "no SwapTotal in /proc/meminfo")
    zram: int | None = None
    if (root / "sys/block").is_dir():
        disks = files.names("sys/block", "zram*")
        sizes = [files.number(f"{disk}/disksize", 0, UNLIMITED) for disk in disks]
        zram = sum(size or 0 for size in sizes)
    else:
        files.lack("zram", "no /sys/block")
    return SwapReading(swap_bytes=swap, zram_bytes=zram, unknown=tuple(files.unknown))


def _meminfo(text: str) -> dict[str, int]:
    """Bytes of the lines that hold a number of kibibytes."""
    figures = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        value = rest.split()[:1]
        if value and value[0].isascii() and value[0].isdecimal():
            figures[name] = int(value[0]) * KIB
    return figures


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
    for group in control_groups(root, "memory"):
        yield from _limit(group.folder, *FILES[group.version])


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
