"""Whether the processor is slowed down: firmware flags, cooling devices, over-current alarms."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.probe.kernel_files import ROOT, KernelFiles

# Where a Raspberry Pi's kernel shows no such file, the firmware is asked by `vcgencmd`.
FLAG_FILES: Final = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc:firmware/get_throttled",
)
FLAGS: Final = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})")
# Source: Raspberry Pi documentation, "vcgencmd get_throttled".
BITS: Final = {
    0: "under-voltage",
    1: "clock capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage since boot",
    17: "clock capped since boot",
    18: "throttled since boot",
    19: "soft temperature limit since boot",
}
SLOWED: Final = 0b1110  # under-voltage alone takes nothing away, the cap that follows it does
FIRMWARE_S: Final = 2.0
COOLING: Final = "sys/class/thermal"
# cpufreq-cpu0 and Processor; a Jetson's cpu-throttle-alert and hot-surface-alert. No fans.
SLOWS_DOWN: Final = re.compile(
    r"cpu-?freq|^processor$|powerclamp|^[bm]?cpu-throttle-alert|hot-surface", re.IGNORECASE
)
MAX_STATE: Final = 10_000
ALARMS: Final = "sys/class/hwmon"
ALARM_CHIP: Final = "soctherm_oc"  # a Jetson's over-current alarms, which slow its clocks down
MAX_EVENTS: Final = 2**63 - 1

Ask = Callable[[], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """What was found.

    Attributes:
        now: whether the processor is slowed down; None where nothing tells.
        reasons: what does so, or has since the device was switched on.
        unknown: what could not be read, and why.
    """

    now: bool | None
    reasons: tuple[str, ...]
    unknown: tuple[str, ...]


def ask_firmware() -> str | None:
    """What `vcgencmd get_throttled` answers; None where there is no such command, or no answer."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 (a fixed command)
            [command, "get_throttled"],
            capture_output=True,
            timeout=FIRMWARE_S,
            check=False,
            encoding="ascii",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def read_throttling(root: Path = ROOT, firmware: Ask = ask_firmware) -> Throttling:
    """Read everything that tells.

    Args:
        root: the folder that stands for `/`.
        firmware: asks a Raspberry Pi's firmware where no file tells.
    """
    files = KernelFiles(root)
    told: list[bool] = []
    reasons: list[str] = []
    flags = _flags(files, firmware)
    if flags is not None:
        told.append(bool(flags & SLOWED))
        reasons += [name for bit, name in BITS.items() if flags >> bit & 1]
    for name, state in _cooling(files):
        told.append(state > 0)
        reasons += [f"{name} at {state}"] if state > 0 else []
    reasons += _alarms(files)
    if not told:
        files.lack("throttling", "neither firmware flags nor a cooling device of the processor")
    return Throttling(
        now=any(told) if told else None, reasons=tuple(reasons), unknown=tuple(files.unknown)
    )


def _flags(files: KernelFiles, firmware: Ask) -> int | None:
    texts = (files.text(path) for path in FLAG_FILES)
    text = next((text for text in texts if text is not None), None)
    source = "get_throttled" if text is not None else "vcgencmd get_throttled"
    text = firmware() if text is None else text
    if text is None:
        return None
    if found := FLAGS.fullmatch(text):
        return int(found[1], 16)
    files.lack(source, f"{text[:48]!r} are no flags; its user must be in the group video")
    return None


def _cooling(files: KernelFiles) -> list[tuple[str, int]]:
    """What slows the processor down for cooling -> how much (0: not at all)."""
    found = []
    for folder in files.names(COOLING, "cooling_device*"):
        name = files.text(f"{folder}/type") or ""
        if SLOWS_DOWN.search(name):
            state = files.number(f"{folder}/cur_state", -1, MAX_STATE)
            if state is not None:
                found.append((name, state))
    return found


def _alarms(files: KernelFiles) -> list[str]:
    counts = []
    for chip in files.names(ALARMS, "hwmon*"):
        if files.text(f"{chip}/name") != ALARM_CHIP:
            continue
        for path in files.names(chip, "oc*_event_cnt"):
            count = files.number(path, 0, MAX_EVENTS)
            alarm = path.rpartition("/oc")[2].removesuffix("_event_cnt")
            if count:
                counts.append(f"over-current alarm {alarm}: {count} since boot")
    return counts
