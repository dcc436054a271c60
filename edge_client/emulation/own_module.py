"""How this package's own helper processes are started: with its packages before all others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_client.emulation.members import MARK


def own_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def own_environment() -> dict[str, str]:
    """Ours, without the mark of a place that we may be in ourselves."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    kept = {key: value for key, value in os.environ.items() if key != MARK}
    return {**kept, "PYTHONPATH": path}
