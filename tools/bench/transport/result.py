"""All that was measured of the transport, and the figures that stand for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fedsparse.errors import ConfigError
from tools.bench.transport.faults import LEAST_CELLS
from tools.bench.transport.fuzz_result import MOST_GROWTH_MB as MOST_FUZZ_MB
from tools.bench.transport.large_model import MOST_GROWTH_MB
from tools.bench.transport.load_result import LEAST_UPDATES_PER_S, MOST_SLOPE_MB
from tools.bench.transport.parts import Part
from tools.bench.transport.round_bytes import MOST_OVERHEAD
from tools.bench.transport.slow_link import MOST_RESENT, MOST_WAIT_S

Document = dict[str, Any]
LIMITS: Final[Mapping[str, str]] = {
    "overhead": f"at most {MOST_OVERHEAD:g}",
    "resent_ratio": f"at most {MOST_RESENT:g}",
    "control_wait_s": f"at most {MOST_WAIT_S:g}",
    "growth_mb": f"at most {MOST_GROWTH_MB:g}",
    "clients": "",
    "updates_per_s": f"at least {LEAST_UPDATES_PER_S:g}",
    "lost": "none",
    "duplicated": "none",
    "rss_slope_mb": f"at most {MOST_SLOPE_MB:g} a round",
    "fault_cells": f"at least {LEAST_CELLS}",
    "fault_failures": "none",
    "frames_fuzzed": f"nothing raised, {MOST_FUZZ_MB:g} MB at most",
}


def headline(parts: Mapping[str, Any]) -> dict[str, float | None]:
    """One figure for each promise, the worst of those measured; None of what was not."""
    found: dict[str, float | None] = dict.fromkeys(LIMITS)
    if rows := parts.get(Part.ROUND_BYTES.value):
        found["overhead"] = rows[0]["overhead"]
    if rows := parts.get(Part.SLOW_LINK.value):
        for key in ("resent_ratio", "control_wait_s"):
            found[key] = max(row[key] for row in rows)
    if rows := parts.get(Part.LARGE_MODEL.value):
        found["growth_mb"] = max(max(row["growth_mb"].values()) for row in rows)
    if load := parts.get(Part.LOAD.value):
        for key in ("clients", "updates_per_s", "duplicated", "rss_slope_mb"):
            found[key] = load[key]
        found["lost"] = load["lost"] + load["unanswered"]
    if faults := parts.get(Part.FAULTS.value):
        found["fault_cells"] = faults["cells"]
        found["fault_failures"] = len(faults["failures"])
    if rows := parts.get(Part.FUZZ.value):
        found["frames_fuzzed"] = sum(row["frames"] for row in rows)
    return found


def holds(parts: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each part that was measured is as it must be."""
    found = {}
    for name, part in parts.items():
        rows = part if isinstance(part, list) else [part]
        found[name] = all(row["holds"] for row in rows)
    return found


def read_parts(path: Path) -> dict[str, Any]:
    """The parts that an earlier run has left in its file; none where there is no file.

    Raises:
        ConfigError: the file is something else.
    """
    if not path.is_file():
        return {}
    try:
        parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no result of `fedsparse bench transport`: move it away, or give another "
            "--output"
        ) from error
    return {name: part for name, part in parts.items() if name in {one.value for one in Part}}
