"""What machine this is: the device tree's model on boards, the DMI product on computers."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.probe.kernel_files import ROOT, KernelFiles

UNKNOWN: Final = "unknown"
MAX_LENGTH: Final = 64
SOURCES: Final = {
    "proc/device-tree/model": "device tree",
    "sys/firmware/devicetree/base/model": "device tree",
    "sys/class/dmi/id/product_name": "DMI",
}
JETSON_RELEASE: Final = "etc/nv_tegra_release"
# Source: the first line of /etc/nv_tegra_release, as in "# R35 (release), REVISION: 4.1, ...".
RELEASE: Final = re.compile(r"#\s*R(\d{1,3})\s+\(release\),\s*REVISION:\s*([\d.]{1,12})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardReading:
    """Which machine; None is unknown.

    Attributes:
        model: its maker's name for it, in printable ASCII.
        source: who says so: `device tree` or `DMI`.
        jetson_release: of NVIDIA's system on a Jetson, such as `R35.4.1`; None elsewhere, too.
        emulated: whether a program plays the processor: no time then says anything about a board.
        unknown: what could not be read, and why.
    """

    model: str | None
    source: str | None
    jetson_release: str | None
    emulated: bool
    unknown: tuple[str, ...]


def read_board(root: Path = ROOT) -> BoardReading:
    """Which machine this is.

    Args:
        root: the folder that stands for `/`.
    """
    files = KernelFiles(root)
    model, source = _named(files)
    if model is None:
        files.lack("board", "neither a device tree nor DMI names it")
    return BoardReading(
        model=model,
        source=source,
        jetson_release=_jetson_release(files, model),
        emulated=is_emulated(root),
        unknown=tuple(files.unknown),
    )


def read_model(root: Path = ROOT) -> str:
    """The machine's name in printable ASCII, or `unknown`.

    Args:
        root: the folder that stands for `/`.
    """
    return _named(KernelFiles(root))[0] or UNKNOWN


def is_emulated(root: Path = ROOT) -> bool:
    """Whether a program plays an ARM processor: the kernel, which it does not play, tells."""
    files = KernelFiles(root)
    told = [
        files.text("sys/devices/system/cpu/modalias") or "",
        files.text("proc/sys/kernel/arch") or "",
    ]
    return platform.machine() == "aarch64" and any("x86" in text for text in told)


def _named(files: KernelFiles) -> tuple[str | None, str | None]:
    for path, source in SOURCES.items():
        text = (files.text(path) or "").strip()
        if text:
            return text[:MAX_LENGTH], source
    return None, None


def _jetson_release(files: KernelFiles, model: str | None) -> str | None:
    text = files.text(JETSON_RELEASE)
    if text is None:
        if model is not None and re.search(r"jetson|nvidia", model, re.IGNORECASE):
            files.lack("Jetson release", f"no /{JETSON_RELEASE}")
        return None
    if found := RELEASE.match(text):
        return f"R{found[1]}.{found[2]}"
    files.lack("Jetson release", f"/{JETSON_RELEASE} names none")
    return None
