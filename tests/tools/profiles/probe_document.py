"""What `edge-client profile --json` prints on a board."""

from __future__ import annotations

import copy
import json
from typing import Any

DOCUMENT: dict[str, Any] = {
    "format": 1,
    "measured_at": "2026-03-05T14:00:00Z",
    "board": {"model": "Raspberry Pi 4 Model B Rev 1.5", "source": "device tree",
              "jetson_release": None},
    "architecture": "aarch64",
    "kernel": "6.6.51+rpt-rpi-v8",
    "python": "3.11.2",
    "cores": {"present": 4, "usable": 4, "quota": None,
              "clusters": [{"cpus": [0, 1, 2, 3], "max_mhz": 1800, "part": "Cortex-A72"}]},
    "cpu_features": ["asimd"],
    "memory": {"total_bytes": 1_966_080_000, "available_bytes": 1_741_000_000, "source": "system",
               "swap_bytes": 209_711_104, "zram_bytes": 0},
    "storage": {"path": "/var/lib/fedsparse", "free_bytes": 10**10,
                "write_bytes_per_s": 18_234_567.8, "written_bytes": 33_554_432},
    "kernel_speed": [
        {"model": "mnist", "density": 0.1, "multiply_adds_per_s": 2.7e9, "seconds": 0.31},
        {"model": "cifar10", "density": 0.1, "multiply_adds_per_s": 1.2e9, "seconds": 0.31},
        {"model": "mnist", "density": 0.05, "multiply_adds_per_s": 9e9, "seconds": 0.31},
    ],
    "memory_bandwidth": {"copy_bytes_per_s": 2_412_345_678.9, "set_bytes_per_s": 2.9e9},
    "link": {"up_bytes_per_s": 3.1e6, "down_bytes_per_s": 4.5e6, "transfers": 9},
    "heat": {"celsius": 61.2, "throttled": False},
    "power": {"source": "mains", "battery_percent": None},
    "unknown": [],
}  # fmt: skip


def document(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The document with other values: `memory__source="x"` changes a nested key."""
    changed = copy.deepcopy(DOCUMENT)
    for path, value in changes.items():
        *tables, key = path.split("__")
        table = changed
        for name in tables:
            table = table[name]
        table[key] = value
    return changed


def data(**changes: Any) -> bytes:  # noqa: ANN401
    """The same as bytes."""
    return json.dumps(document(**changes)).encode()
