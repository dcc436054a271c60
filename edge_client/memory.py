"""Resident memory of this process, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

STATUS: Final = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """The highest resident set of this process so far (VmHWM), in bytes."""
    return _field("VmHWM:")


def rss_bytes() -> int:
    """The resident set of this process now (VmRSS), in bytes."""
    return _field("VmRSS:")


def _field(name: str) -> int:
    # Not `getrusage`: its maximum is inherited from the parent across fork and exec.
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {name}")
