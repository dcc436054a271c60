"""Which mechanism holds each board, and what its figures are based on: one line a group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

MIB: Final = 2**20
HEADS: Final[tuple[str, ...]] = ("group", "board", "memory", "processor", "link")


def limits_lines(devices: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table of the summary's devices; a group whose devices are held alike is one line."""
    counts: dict[tuple[str, ...], int] = {}
    for device in devices:
        row: tuple[str, ...] = (device["group"], device["board"], *cells(device))
        counts[row] = counts.get(row, 0) + 1
    rows = [HEADS]
    for (group, *texts), count in counts.items():
        rows.append((f"{group} x{count}" if count > 1 else group, *texts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for line in rows:
        parts = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        yield "  ".join(parts).rstrip()


def cells(device: Mapping[str, Any]) -> tuple[str, str, str]:
    """Memory, processor and link of a device: how much, by what, on which basis."""
    limits, figures = device["limits"], device["figures"]
    if not limits:
        return "-", "-", "-"
    return (
        f"{figures['memory_bytes']['value'] / MIB:.0f} MiB, {_held(limits['memory'])}, "
        f"{figures['memory_bytes']['basis']}",
        _processor(limits["cpu"], figures["multiply_adds_per_s"]),
        f"{_rates(figures)}, {_held(limits['link'])}",
    )


def _processor(limit: Mapping[str, Any], figure: Mapping[str, Any]) -> str:
    share = limit["parameters"].get("share")
    if share is None:
        return f"no limit: {limit['passed_over'][0]}"
    return f"{share:.3f} of one, {_held(limit)}, {figure['basis']}"


def _rates(figures: Mapping[str, Any]) -> str:
    up, down = figures["up_bytes_per_s"], figures["down_bytes_per_s"]
    if up["value"] is None and down["value"] is None:
        return "rates unknown: no limit"
    bases = dict.fromkeys(one["basis"] for one in (up, down) if one["value"] is not None)
    texts = [_rate(one["value"]) for one in (up, down)]
    return f"{' / '.join(texts)} ({', '.join(bases)})"


def _rate(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value / 1e6:g} MB/s" if value >= 1e6 else f"{value / 1e3:g} kB/s"


def _held(limit: Mapping[str, Any]) -> str:
    about = " (approximate)" if limit["approximate"] else ""
    return f"{limit['mechanism']}{about}"
