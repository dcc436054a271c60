"""What running an experiment looks like, on stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn

from tools.bench.paper.grid import Run
from tools.bench.paper.pace import Pace
from tools.bench.progress import ProgressBlock

STEP: Final = 0.1  # of a run, between two plain lines


class RunsView(ProgressBlock):
    """A line for each running run, one for all of them; where stderr is no terminal, plain lines.

    Args:
        runs: what is still to do.
        finished: how many of the experiment's runs are done already.
        console: where to; by default stderr.
    """

    def __init__(
        self, runs: Sequence[Run], *, finished: int = 0, console: Console | None = None
    ) -> None:
        super().__init__(
            console or Console(stderr=True),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[note]}"),
        )
        self._pace = Pace({run.name: run.spec.rounds for run in runs})
        self._count, self._finished = finished + len(runs), finished
        self._start = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._all = self._progress.add_task("all", total=1.0, note=self._note())

    def begin(self, run: Run) -> None:
        """A run starts, or goes on."""
        self._tasks[run.name] = self._progress.add_task(
            run.name, total=run.spec.rounds, note="starting"
        )
        self._said[run.name] = 0.0

    def tell(self, run: Run, done: int, accuracy: float | None) -> None:
        """A run has closed `done` of its training rounds; it scored `accuracy` last."""
        self._pace.tell(run.name, done)
        score = "" if accuracy is None else f", {100 * accuracy:.1f} %"
        note = f"round {done} of {run.spec.rounds}{score}"
        self._progress.update(self._tasks[run.name], completed=done, note=note)
        self._refresh()
        if not self._live and done >= (self._said[run.name] + STEP) * run.spec.rounds:
            self._said[run.name] = done / run.spec.rounds
            self._print(f"{run.name}: {note}; {self._note()}")

    def end(self, run: Run) -> None:
        """A run is done."""
        self._finished += 1
        self._close(run, "done")

    def failed(self, run: Run, reason: str) -> None:
        """A run broke off; the others go on."""
        self._close(run, f"failed: {reason}")

    def _close(self, run: Run, what: str) -> None:
        self._pace.end(run.name)
        self._progress.remove_task(self._tasks.pop(run.name))
        self._refresh()
        self._print(f"{run.name}: {what}; {self._note()}")

    def _note(self) -> str:
        left = self._pace.left_s(time.monotonic() - self._start)
        time_left = "" if left is None else f", about {_duration(left)} left"
        return f"{self._finished} of {self._count} runs{time_left}"

    def _refresh(self) -> None:
        self._progress.update(self._all, completed=self._pace.share, note=self._note())

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
