"""How far a benchmark is, on stderr; fits 80 columns."""

from __future__ import annotations

import time
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

WIDTH: Final = 34  # of the line's text


Block = TypeVar("Block", bound="ProgressBlock")


class ProgressBlock:
    """Lines with bars for as long as the block lasts, where the console is a terminal.

    Args:
        console: where to.
        columns: of a line.
    """

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._console = console
        self._live = console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=not self._live)

    def __enter__(self: Block) -> Block:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


class ProgressLine(ProgressBlock):
    """What is being measured, how much is done, and how long the rest takes: on stderr.

    Where stderr is no terminal, one line a part.
    """

    def __init__(self, parts: int) -> None:
        super().__init__(
            Console(stderr=True),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(compact=True),
        )
        self._task: TaskID = self._progress.add_task("", total=parts)
        self._parts, self._done = parts, 0
        self._start = time.monotonic()
        self._part = ""

    def begin(self, part: str) -> None:
        """Measure `part` next."""
        self._part = part
        if not self._live:
            self._console.print(f"{part} ({self._done + 1} of {self._parts})", highlight=False)

    def tell(self, what: str, share: float) -> None:
        """`what` is being done, `share` of the part is."""
        text = f"{self._part}: {what}"[:WIDTH].ljust(WIDTH)
        self._progress.update(self._task, description=text, completed=self._done + share)

    def end(self) -> None:
        """The part is done."""
        self._done += 1
        if not self._live:
            passed = time.monotonic() - self._start
            left = passed / self._done * (self._parts - self._done)
            self._console.print(f"  done, about {left:.0f} s left", highlight=False)
