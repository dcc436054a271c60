"""How hot the device is, and whether it is slowed down for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.probe.kernel_files import ROOT, KernelFiles
from edge_client.probe.throttling import Ask, ask_firmware, read_throttling

THERMAL: Final = "sys/class/thermal"
MILLIDEGREES: Final = (-40_000, 150_000)  # of a processor that can be
# cpu-thermal, CPU-therm, cpu_thermal; x86_pkg_temp; bigcore0-thermal; soc-thermal.
OF_PROCESSOR: Final = re.compile(r"cpu|x86_pkg|core|^soc[-_]?therm", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One sensor, as its driver calls it; `celsius` None is unknown."""

    type: str
    celsius: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatReading:
    """What was found; None is unknown.

    Attributes:
        celsius, zone: of the hottest sensor of the processor, and which that is.
        throttled: whether the processor is slowed down now.
        reasons: what slows it down, or has since it was switched on.
        zones: all sensors.
        unknown: what could not be read, and why.
    """

    celsius: float | None
    zone: str | None
    throttled: bool | None
    reasons: tuple[str, ...]
    zones: tuple[Zone, ...]
    unknown: tuple[str, ...]


def read_heat(root: Path = ROOT, firmware: Ask = ask_firmware) -> HeatReading:
    """Read sensors and flags.

    Args:
        root: the folder that stands for `/`.
        firmware: asks a Raspberry Pi's firmware where no file tells.
    """
    files = KernelFiles(root)
    zones = tuple(
        Zone(type=files.text(f"{folder}/type") or "", celsius=_celsius(files, folder))
        for folder in files.names(THERMAL, "thermal_zone*")
    )
    known = [
        (zone.celsius, zone.type)
        for zone in zones
        if zone.celsius is not None and OF_PROCESSOR.search(zone.type)
    ]
    hottest = max(known, default=None)
    if hottest is None:
        names = ", ".join(zone.type or "?" for zone in zones)
        why = f"none of {names} is the processor's" if zones else f"no zone in /{THERMAL}"
        files.lack("temperature", why)
    throttling = read_throttling(root, firmware)
    return HeatReading(
        celsius=hottest[0] if hottest else None,
        zone=hottest[1] if hottest else None,
        throttled=throttling.now,
        reasons=throttling.reasons,
        zones=zones,
        unknown=(*files.unknown, *throttling.unknown),
    )


def _celsius(files: KernelFiles, folder: str) -> float | None:
    millidegrees = files.number(f"{folder}/temp", *MILLIDEGREES)
    return None if millidegrees is None else millidegrees / 1e3
