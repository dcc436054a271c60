"""The tables of `fedsparse bench runtime`: they fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.box import SIMPLE
from rich.table import Table

VERDICTS: Final = {"aim": "aim met", "floor": "floor met", "miss": "missed"}


def results_table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> Table:
    """One row a model and density.

    Args:
        rows: model -> density -> figures.
        title: what was measured.
    """
    table = Table(
        title=title,
        caption="sparse: ms of a step, median; x: how many times as fast as torch, as torch times "
        "mask, as graph; auto: ms of what calibration chose; MB: highest resident memory of the "
        "process (predicted); FMA: of the machine's multiply-adds",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("model", no_wrap=True, min_width=9)
    for name in ("density", "sparse", "x torch", "x mask", "x graph", "auto", "MB", "FMA %"):
        table.add_column(name, justify="right", no_wrap=True)
    for model, by_density in rows.items():
        for density, row in by_density.items():
            table.add_row(
                model,
                density,
                f"{row['step_ms']:.2f}",
                *(_times(row[f"speedup{rest}"]) for rest in ("", "_vs_masked", "_vs_graph")),
                f"{row['auto_ms']:.2f}",
                f"{row['peak_rss_mb']:.1f} ({row['predicted_peak_mb']:.0f})",
                f"{100 * row['fraction_of_fma_peak']:.0f}",
            )
        table.add_section()
    return table


def targets_table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """One row a target that was measured."""
    table = Table(title="targets", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("model", "density", "figure"):
        table.add_column(name)
    for name in ("measured", "floor", "aim"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for model, by_density in rows.items():
        for density, row in by_density.items():
            for one in row["targets"]:
                sign = "<=" if one["at_most"] else ">="
                table.add_row(
                    model,
                    density,
                    one["figure"],
                    f"{one['measured']:.2f}",
                    f"{sign} {one['floor']:g}",
                    f"{sign} {one['aim']:g}",
                    VERDICTS[one["verdict"]],
                )
    return table


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
