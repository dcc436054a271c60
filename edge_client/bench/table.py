"""The page of `edge-client bench`: plain text of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

EMULATED: Final = "EMULATED PROCESSOR: no time below says anything about a board."
HEADS: Final = (
    "model",
    "density",
    "step ms",
    "samples/s",
    "MB",
    "predicted",
    "of FMA",
    "of memory",
)
WIDTHS: Final = (12, 7, 9, 9, 7, 9, 6, 9)


def machine_lines(machine: Mapping[str, Any], versions: Mapping[str, str]) -> Iterator[str]:
    """What was measured on."""
    if machine.get("emulated"):
        yield EMULATED
    yield f"board     {machine['board']}, {machine['architecture']}"
    notes = [f"{machine['cpus']} cores"]
    if "max_mhz" in machine:
        notes.append(f"up to {machine['max_mhz']:.0f} MHz")
    if "governor" in machine:
        notes.append(f"governor {machine['governor']}")
    yield f"processor {machine.get('cpu', 'unknown')}, {', '.join(notes)}"
    if "celsius" in machine and machine.get("celsius_after") is not None:
        yield f"heat      {machine['celsius']:.0f} to {machine['celsius_after']:.0f} Celsius"
    yield f"memory    {machine['memory_mb']} MB"
    yield f"versions  {', '.join(f'{name} {number}' for name, number in versions.items())}"


def limits_lines(limits: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What one thread of the machine can do, in each variant of the kernels."""
    for name, one in limits.items():
        load, copy = (
            "/".join(f"{one[which][level] / 1e9:.3g}" for level in ("l1", "l2", "dram"))
            for which in ("load_bytes_per_s", "copy_bytes_per_s")
        )
        yield (
            f"{name:9} {one['fma_per_s'] / 1e9:.1f} G multiply-adds/s\n"
            f"{'':9} L1/L2/DRAM load {load}, copy {copy} GB/s"
        )


def results_lines(
    models: Mapping[str, Mapping[str, Mapping[str, Any]]], batch_size: int, threads: int
) -> Iterator[str]:
    """One line a model and density, and what the columns mean."""
    yield _line(HEADS)
    for model, rows in models.items():
        for density, row in rows.items():
            if "skipped" in row:
                yield f"{_line((model, density))}  {row['skipped']}"
                continue
            yield _line(
                (
                    model,
                    density,
                    f"{row['step_ms']:.2f}",
                    f"{1e3 * batch_size / row['step_ms']:.0f}",
                    f"{row['peak_rss_mb']:.1f}",
                    f"{row['predicted_peak_mb']:.1f}",
                    f"{100 * row['fraction_of_fma_peak']:.0f} %",
                    f"{100 * row['fraction_of_memory_limit']:.0f} %",
                )
            )
    yield ""
    yield f"A step: forward, backward and update; batch {batch_size}, {threads} thread(s), median."
    yield "MB: highest resident memory of the whole process, and what was predicted of it."


def _line(cells: tuple[str, ...]) -> str:
    first, *rest = zip(cells, WIDTHS, strict=False)
    return " ".join([f"{first[0]:{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)])
