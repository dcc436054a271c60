"""The document of `edge-client profile` (docs/devices.md): what is read, and what was measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_client.probe.board import BoardReading, read_board
from edge_client.probe.heat import HeatReading, read_heat
from edge_client.probe.kernel_files import ROOT
from edge_client.probe.link import LinkEstimate
from edge_client.probe.measured import Measurement
from edge_client.probe.memory import (
    MemoryReading,
    SwapReading,
    read_memory,
    read_swap,
    system_memory,
)
from edge_client.probe.power import PowerReading, read_power
from edge_client.probe.processor import ProcessorReading, read_processor
from edge_client.probe.storage import free_bytes

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What can be read at once; `memory` None is unknown."""

    board: BoardReading
    architecture: str
    kernel: str
    python: str
    processor: ProcessorReading
    memory: MemoryReading | None
    swap: SwapReading
    unknown: tuple[str, ...]


def read_means(root: Path = ROOT) -> Means:
    """Board, processor and memory.

    Args:
        root: the folder that stands for `/`.
    """
    unknown: tuple[str, ...] = ()
    memory: MemoryReading | None = None
    try:
        memory = read_memory(lambda: system_memory(root), root)
    except OSError as error:
        why = f"/proc/meminfo: {error.strerror}" if error.strerror else str(error)
        unknown = (f"memory: {why}",)
    return Means(
        board=read_board(root),
        architecture=platform.machine(),
        kernel=platform.release(),
        python=platform.python_version(),
        processor=read_processor(root),
        memory=memory,
        swap=read_swap(root),
        unknown=unknown,
    )


def report(
    means: Means,
    measured: Measurement,
    link: LinkEstimate | None,
    folder: Path,
    *,
    origin: Mapping[str, object],
    root: Path = ROOT,
) -> dict[str, Any]:
    """The whole document; heat, power and free room are read now.

    Args:
        means: what was read before the measurement.
        measured: now or earlier.
        link: what recent transfers say; None where there is no store that would know.
        folder: of the storage.
        origin: whether `measured` is kept from earlier, and why.
        root: the folder that stands for `/`.
    """
    heat, power = read_heat(root), read_power(root)
    free, unknown = _free(folder)
    if link is None:
        unknown += ("link: transfers are known to a device's store: name its client.toml",)
    elif not link.transfers:
        unknown += ("link: no transfer that was large enough yet",)
    return {
        "format": FORMAT,
        "measured_at": measured.stamp,
        "origin": dict(origin),
        "board": _known(means.board),
        "architecture": means.architecture,
        "kernel": means.kernel,
        "python": means.python,
        "cores": _cores(means.processor),
        "cpu_features": list(means.processor.features),
        "simd": list(means.processor.simd),
        "memory": _memory(means),
        "storage": {
            "path": str(folder),
            "free_bytes": free,
            "write_bytes_per_s": measured.writing.write_bytes_per_s,
            "written_bytes": measured.writing.written_bytes,
        },
        "kernel_speed": [asdict(row) for row in measured.kernel_speed],
        "memory_bandwidth": _bandwidth(measured),
        "link": _link(link or LinkEstimate()),
        "heat": _known(heat),
        "power": _known(power),
        "unknown": list(dict.fromkeys([
            *means.unknown, *means.board.unknown, *means.processor.unknown, *means.swap.unknown,
            *measured.unknown, *unknown, *heat.unknown, *power.unknown,
        ])),
    }  # fmt: skip


def _known(reading: BoardReading | HeatReading | PowerReading) -> dict[str, Any]:
    document = asdict(reading)
    del document["unknown"]
    return document


def _cores(processor: ProcessorReading) -> dict[str, Any]:
    cpus = processor.usable_cpus
    return {
        "present": processor.present,
        "usable": None if cpus is None else len(cpus),
        "usable_cpus": None if cpus is None else list(cpus),
        "quota": processor.quota,
        "clusters": [asdict(cluster) for cluster in processor.clusters],
    }


def _memory(means: Means) -> dict[str, Any]:
    memory = means.memory
    return {
        "total_bytes": memory.total_bytes if memory else None,
        "available_bytes": memory.available_bytes if memory else None,
        "source": memory.source if memory else None,
        "swap_bytes": means.swap.swap_bytes,
        "zram_bytes": means.swap.zram_bytes,
    }


def _link(link: LinkEstimate) -> dict[str, Any]:
    return {
        "up_bytes_per_s": link.up_bytes_per_s,
        "down_bytes_per_s": link.down_bytes_per_s,
        "transfers": link.transfers,
    }


def _bandwidth(measured: Measurement) -> dict[str, Any]:
    names = ("copy_bytes_per_s", "set_bytes_per_s", "block_bytes")
    return asdict(measured.bandwidth) if measured.bandwidth else dict.fromkeys(names)


def _free(folder: Path) -> tuple[int | None, tuple[str, ...]]:
    try:
        return free_bytes(folder), ()
    except OSError as error:
        return None, (f"free room: {folder}: {error.strerror}",)
