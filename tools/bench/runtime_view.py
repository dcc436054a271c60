"""The table of `fedsparse bench runtime`, and its progress line; both fit 80 columns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

VERDICTS: Final = {"aim": "aim met", "floor": "floor met", "miss": "missed"}
WIDTH: Final = 26  # of the progress line's text


def results_table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> Table:
    """One row a model and density.

    Args:
        rows: model -> density -> figures.
        title: what was measured.
    """
    table = Table(
        title=title,
        caption="step: sparse engine, median; x: how often faster than torch, than torch times "
        "mask, than graph; MB: highest resident memory of the process (predicted)",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("model")
    for name in ("density", "step ms", "x torch", "x mask", "x graph", "MB", "of FMA"):
        table.add_column(name, justify="right", no_wrap=True)
    for model, by_density in rows.items():
        for density, row in by_density.items():
            table.add_row(
                model,
                density,
                f"{row['step_ms']:.2f}",
                *(_times(row[f"speedup{rest}"]) for rest in ("", "_vs_masked", "_vs_graph")),
                f"{row['peak_rss_mb']:.1f} ({row['predicted_peak_mb']:.1f})",
                f"{100 * row['fraction_of_fma_peak']:.0f} %",
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


class ProgressLine:
    """What is being measured, how much is done, and how long the rest takes: on stderr.

    Where stderr is no terminal, one line a model.
    """

    def __init__(self, models: int) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("", total=models)
        self._models, self._done = models, 0
        self._start = time.monotonic()
        self._model = ""

    def begin(self, model: str) -> None:
        """Measure `model` next."""
        self._model = model
        if not self._console.is_terminal:
            self._console.print(f"{model} ({self._done + 1} of {self._models})", highlight=False)

    def tell(self, what: str, share: float) -> None:
        """`what` is being done, `share` of the model is."""
        text = f"{self._model}: {what}"[:WIDTH].ljust(WIDTH)
        self._progress.update(self._task, description=text, completed=self._done + share)

    def end(self) -> None:
        """The model is done."""
        self._done += 1
        if not self._console.is_terminal:
            passed = time.monotonic() - self._start
            left = passed / self._done * (self._models - self._done)
            self._console.print(f"  done, about {left:.0f} s left", highlight=False)

    def __enter__(self) -> ProgressLine:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
