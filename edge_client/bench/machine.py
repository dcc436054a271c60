"""Which machine a measurement is of. No numpy."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from edge_client.probe.board import is_emulated, read_model
from edge_client.probe.memory import system_memory
from edge_client.probe.processor import cpuinfo, part_name
from edge_client.runtime.native.library import Library
from fedsparse import __version__

ROOT: Final = Path("/")
PACKAGES: Final = ("numpy", "onnxruntime", "torch")
MB: Final = 1e6


def describe_machine(library: Library, root: Path = ROOT) -> dict[str, Any]:
    """What a reader needs to know to place figures; unknown facts are left out.

    Args:
        library: the kernels; their variants are part of the description.
        root: the folder that stands for `/`.
    """
    facts = {
        "board": read_model(root),
        "cpu": _cpu(root),
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "memory_mb": round(system_memory(root).total_bytes / MB),
        "kernel": platform.release(),
        "variants": list(library.variants),
        "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "max_mhz": _number(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", 1e-3),
        "celsius": read_celsius(root),
        "emulated": is_emulated(root) or None,
    }
    return {name: fact for name, fact in facts.items() if fact not in (None, "")}


def read_celsius(root: Path = ROOT) -> float | None:
    """The processor's temperature, where the kernel tells: a board that is hot slows down."""
    return _number(root / "sys/class/thermal/thermal_zone0/temp", 1e-3)


def describe_versions() -> dict[str, str]:
    """Python, fedsparse and what engines are made of, as far as it is installed."""
    found = {"python": platform.python_version(), "fedsparse": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu(root: Path) -> str:
    """Its name on x86-64; on ARM the kinds of its cores."""
    return " + ".join(dict.fromkeys(part_name(info) or "" for info in cpuinfo(root).values()))


def _number(path: Path, scale: float) -> float | None:
    text = _text(path)
    return int(text) * scale if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
