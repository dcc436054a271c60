"""Taking the measurements that take seconds: kernels, memory, storage, one after the other."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from edge_client.probe.bandwidth import Bandwidth
from edge_client.probe.board import BoardReading
from edge_client.probe.measured import Basis, KernelSpeed, Measurement, read_bandwidth
from edge_client.probe.memory import MemoryReading
from edge_client.probe.processor import ProcessorReading
from edge_client.probe.speaking import listen
from edge_client.probe.storage import measure_writing
from edge_client.runtime.native.library import LIBRARY
from fedsparse import __version__

KERNELS: Final = "edge_client.trainer.kernel_speed"
BANDWIDTH: Final = "edge_client.probe.bandwidth"
# All together, with writing, leave two seconds of ten for Python itself and for a slow disk.
KERNELS_S: Final = 5.0
BANDWIDTH_S: Final = 2.0
MIB: Final = 2**20

Progress = Callable[[str], None]


def basis_of(
    board: BoardReading,
    processor: ProcessorReading,
    memory: MemoryReading | None,
    *,
    architecture: str,
    kernel: str,
    folder: Path,
) -> dict[str, str]:
    """What measurements depend on; where one of these changes, they are taken again."""
    cpus = processor.usable_cpus
    return {
        "board": board.model or "unknown",
        "architecture": architecture,
        "kernel": kernel,
        "fedsparse": f"{__version__} with kernels {_checksum(LIBRARY)}",
        "usable cores": ",".join(map(str, cpus)) if cpus is not None else "unknown",
        "CPU quota": "none" if processor.quota is None else f"{processor.quota:g} cores",
        "memory": "unknown" if memory is None else f"{memory.total_bytes // MIB} MiB",
        "folder": str(folder.resolve()),
    }


def take_measurement(
    basis: Basis, folder: Path, memory_bytes: int | None, progress: Progress
) -> Measurement:
    """Measure; in less than ten seconds, unless the disk keeps us waiting.

    Args:
        basis: what the figures depend on.
        folder: where writing is measured.
        memory_bytes: that is available; None is unknown.
        progress: is told what is being done.
    """
    unknown: list[str] = []
    rows = _kernel_speed(progress, unknown)
    bandwidth = _bandwidth(progress, unknown)
    progress(f"writing to {folder}")
    writing = measure_writing(folder, memory_bytes)
    return Measurement(
        measured_at=datetime.now(timezone.utc).replace(microsecond=0),
        basis=basis,
        kernel_speed=rows,
        bandwidth=bandwidth,
        writing=writing,
        unknown=(*unknown, *writing.unknown),
    )


def _kernel_speed(progress: Progress, unknown: list[str]) -> tuple[KernelSpeed, ...]:
    rows: dict[tuple[str, float], KernelSpeed] = {}
    total = 0

    def heard(line: dict[str, Any]) -> None:
        nonlocal total
        total = line.get("cases", total)
        if "row" in line:
            row = KernelSpeed.from_document(line["row"])
            if (row.model, row.density) not in rows:
                done = f"({len(rows) + 1} of {total})"
                progress(f"training kernels: {row.model} at density {row.density:g} {done}")
            rows[row.model, row.density] = row

    progress("training kernels: starting")
    reason = listen(KERNELS, KERNELS_S, heard)
    missing = max(total, 1) - len(rows)
    if missing:
        lacks = f"{missing} of {total} cases" if rows else "all"
        unknown.append(f"kernel speed: {lacks}: {reason or 'ran out of time'}")
    return tuple(sorted(rows.values(), key=lambda row: (row.model, row.density)))


def _bandwidth(progress: Progress, unknown: list[str]) -> Bandwidth | None:
    found: list[Bandwidth | None] = []
    progress("memory: copying and setting")
    reason = listen(BANDWIDTH, BANDWIDTH_S, lambda line: found.append(read_bandwidth(line)))
    if not found:
        unknown.append(f"memory bandwidth: {reason or 'nothing was said'}")
    return found[-1] if found else None


def _checksum(path: Path) -> str:
    try:
        return f"{zlib.crc32(path.read_bytes()):08x}"
    except OSError:
        return "missing"
