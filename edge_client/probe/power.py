"""Where the power comes from: the mains, or a battery and how much of it is left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.probe.kernel_files import ROOT, KernelFiles

SUPPLIES: Final = "sys/class/power_supply"
MAINS: Final = "mains"
BATTERY: Final = "battery"
FED: Final = ("Charging", "Not charging")  # of a battery: power comes from elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReading:
    """What was found; None is unknown.

    Attributes:
        source: `mains` (a charger or a USB port that feeds the device, too) or `battery`.
        battery_percent: of the fullest battery that feeds the device.
        unknown: what could not be read, and why.
    """

    source: str | None
    battery_percent: int | None
    unknown: tuple[str, ...]


def read_power(root: Path = ROOT) -> PowerReading:
    """Read the supplies that the kernel knows; most boards without a battery have none.

    Args:
        root: the folder that stands for `/`.
    """
    files = KernelFiles(root)
    supplies = [
        (folder, files.text(f"{folder}/type") or "")
        for folder in files.names(SUPPLIES, "*")
        if files.text(f"{folder}/scope") != "Device"  # the battery of a mouse
    ]
    batteries = [folder for folder, kind in supplies if kind == "Battery"]
    online = [
        files.number(f"{folder}/online", 0, 2)
        for folder, kind in supplies
        if kind == "Mains" or kind.startswith("USB")
    ]
    source = _source(online, [files.text(f"{folder}/status") for folder in batteries])
    if source is None:
        why = "the supplies do not tell" if supplies else f"no supply in /{SUPPLIES}"
        files.lack("power source", why)
    charges = [files.number(f"{folder}/capacity", 0, 100) for folder in batteries]
    return PowerReading(
        source=source,
        battery_percent=max((charge for charge in charges if charge is not None), default=None),
        unknown=tuple(files.unknown),
    )


def _source(online: list[int | None], statuses: list[str | None]) -> str | None:
    if any(online) or any(status in FED for status in statuses):
        return MAINS
    off_mains = bool(online) and None not in online
    if statuses and (off_mains or "Discharging" in statuses):
        return BATTERY
    return None
