"""What machine this is: the device tree's model on boards, the DMI product on computers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
UNKNOWN: Final = "unknown"
MAX_LENGTH: Final = 64
SOURCES: Final = (
    "proc/device-tree/model",
    "sys/firmware/devicetree/base/model",
    "sys/class/dmi/id/product_name",
)


def read_model(root: Path = ROOT) -> str:
    """The machine's name in printable ASCII, or `unknown`.

    Args:
        root: the folder that stands for `/`.
    """
    for source in SOURCES:
        try:
            raw = (root / source).read_bytes()
        except OSError:
            continue
        text = "".join(chr(byte) for byte in raw if 32 <= byte < 127).strip()
        if text:
            return text[:MAX_LENGTH]
    return UNKNOWN
