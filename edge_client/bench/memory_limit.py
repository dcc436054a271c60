"""A process that may use only so much memory: a control group where one can be made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """How a process is held to a limit.

    Attributes:
        kind: `cgroup v1`, `cgroup v2`, or `RLIMIT_AS`, which counts address space and not memory:
            an approximation, on the strict side.
        prefix: goes before the command of the process.
        peak: the file with the group's highest use; None where there is none.
    """

    kind: str
    prefix: tuple[str, ...]
    peak: Path | None = None

    def peak_bytes(self) -> int | None:
        """The highest use that the group has seen."""
        return int(self.peak.read_text(encoding="ascii")) if self.peak else None


@contextmanager
def memory_limit(size_bytes: int, root: Path = CGROUPS) -> Iterator[MemoryLimit]:
    """A limit for one process; its control group goes when the context is left.

    Args:
        size_bytes: memory, without swap.
        root: where control groups are mounted.
    """
    group = _group(root, size_bytes)
    if group is None:
        yield _address_space(size_bytes)
        return
    try:
        yield _limited(group)
    finally:
        with suppress(OSError):
            group.rmdir()


def _group(root: Path, size_bytes: int) -> Path | None:
    """A new control group with the limit; None where that is not allowed."""
    for parent, files in (
        (root, {"memory.max": size_bytes, "memory.swap.max": 0}),
        (root / "memory", {"memory.limit_in_bytes": size_bytes,
                           "memory.memsw.limit_in_bytes": size_bytes}),
    ):  # fmt: skip
        group = parent / f"fedsparse-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        first, swap = files
        try:
            _write(group / first, files[first])
        except OSError:
            group.rmdir()
            continue
        with suppress(OSError):  # a kernel that does not count swap has no such file
            _write(group / swap, files[swap])
        return group
    return None


def _write(path: Path, value: int) -> None:
    with path.open("r+", encoding="ascii") as file:  # a group without the file has no such limit
        file.write(str(value))


def _limited(group: Path) -> MemoryLimit:
    # The shell joins the group, then becomes the process: all that this uses is counted.
    script = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
    second = (group / "memory.max").exists()
    return MemoryLimit(
        kind="cgroup v2" if second else "cgroup v1",
        prefix=("/bin/sh", "-c", script, "sh"),
        peak=group / ("memory.peak" if second else "memory.max_usage_in_bytes"),
    )


def _address_space(size_bytes: int) -> MemoryLimit:
    script = f'ulimit -v {size_bytes // KIB} && exec "$@"'
    return MemoryLimit(kind="RLIMIT_AS", prefix=("/bin/sh", "-c", script, "sh"))
