"""What the user sees while a run is going: a live table, plain lines, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tools.demo.state import Activity, DeviceState, RoundRecord, RunState, score_texts

STYLES: Final = {
    Activity.STARTING: "dim",
    Activity.IDLE: "",
    Activity.TRAINING: "bold green",
    Activity.DECLINED: "yellow",
    Activity.FAILED: "bold red",
    Activity.OFFLINE: "red",
}
LEVEL_STYLES: Final = ("bright_magenta", "bright_cyan", "bright_yellow", "bright_green")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the live table; it is shown from `least_width` columns of the terminal on."""

    name: str
    cell: Callable[[DeviceState, RunState], RenderableType]
    least_width: int = 0
    is_number: bool = False
    stretches: bool = False


class View(Protocol):
    """Follows a run; used as a context manager around it."""

    def __enter__(self) -> View: ...

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """One step of the preparation, or an incident."""
        ...

    def update(self, state: RunState) -> None:
        """Called several times a second."""
        ...


class QuietView:
    """Shows nothing: for the benches."""

    def __enter__(self) -> QuietView:
        return self

    def __exit__(self, *error: object) -> None: ...

    def say(self, text: str) -> None:
        """Nothing."""

    def update(self, state: RunState) -> None:
        """Nothing."""


class PlainView(QuietView):
    """Progress as lines, one a round: for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._rounds = 0
        self._waiting = ""
        self._reasons: dict[str, str] = {}
        self._failures: dict[str, int] = {}

    def say(self, text: str) -> None:
        """One line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def update(self, state: RunState) -> None:
        """A line for each choice of a level, failure, round that waits, and closed round."""
        for device in state.devices.values():
            if device.reason and self._reasons.get(device.device) != device.level:
                self._reasons[device.device] = device.level
                level = device.level or "none"
                self.say(
                    f"{device.device} ({device.board}): density {level}: {short_reason(device)}"
                )
        for device in state.devices.values():
            if device.failures > self._failures.get(device.device, 0):
                self._failures[device.device] = device.failures
                self.say(f"{device.device} ({device.board}) gave a task up: {device.reason}")
        if state.waiting and state.waiting != self._waiting:
            self.say(state.waiting)
        self._waiting = state.waiting
        for one in state.rounds[self._rounds :]:
            self.say(round_line(one, state))
        self._rounds = len(state.rounds)


class LiveView(QuietView):
    """A table that is drawn anew in place, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line above the table."""
        self._console.print(f"[dim]·[/dim] {text}", highlight=False)

    def update(self, state: RunState) -> None:
        """Draw the state."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(render(state, self._console.width), refresh=True)


def open_view(*, live: bool) -> View:
    """A table that is drawn in place where there is a terminal, and it is wanted; else lines."""
    console = Console(stderr=True)
    return (
        LiveView(console) if live and console.is_terminal and sys.stdout.isatty() else PlainView()
    )


def round_line(one: RoundRecord, state: RunState) -> str:
    """One closed round in one line."""
    traffic = sum(figures.total for figures in one.traffic.values())
    of = f" of {state.total_rounds}" if one.is_training else ""
    parts = [
        f"round {one.round_id}{of} ({one.stage})",
        f"{one.updates} of {one.cohort} updates",
        f"{one.wall_s:.1f} s",
        f"{traffic / 1000:.0f} kB",
    ]
    if one.loss is not None:
        parts.append(f"loss {one.loss:.3f}")
    if one.accuracy:
        parts.append(f"accuracy {_by_density(one.accuracy)}")
    elif one.test_loss:
        parts.append(f"test loss {_by_density(one.test_loss)}")
    return ", ".join(parts)


def _by_density(scores: dict[str, float]) -> str:
    """`0.831 at density 0.2, ...`."""
    return ", ".join(f"{value:.3f} at density {level}" for level, value in scores.items())


def render(state: RunState, width: int) -> RenderableType:
    """The headline and one row a device; a narrow terminal gets fewer columns."""
    shown = [column for column in COLUMNS if width >= column.least_width]
    table = Table(expand=True, box=None, padding=(0, 1), header_style="dim")
    for column in shown:
        table.add_column(
            column.name,
            justify="right" if column.is_number else "left",
            ratio=1 if column.stretches else None,
            no_wrap=True,
            overflow="ellipsis",
        )
    for device in sorted(state.devices.values(), key=lambda one: one.device):
        table.add_row(*(column.cell(device, state) for column in shown))
    waiting = [Text(state.waiting, style="yellow")] if state.waiting else []
    return Panel(
        Group(_headline(state), *waiting, Text(), table),
        title=f"fedsparse · {state.job or 'waiting for the aggregator'}",
        title_align="left",
        border_style="dim",
        padding=(0, 1),
    )


def _headline(state: RunState) -> Text:
    done = len(state.training_rounds)
    text = Text()
    text.append(f"{state.method}, " if state.method else "")
    text.append(f"round {done} of {state.total_rounds}" if state.total_rounds else "starting")
    text.append(f" ({state.stage})" if state.stage else "", style="dim")
    text.append(f"   {state.time_s:.0f} s", style="dim")
    for level, score in score_texts(state.accuracy, state.test_loss).items():
        text.append(f"   density {level}: ", style="dim")
        text.append(score, style=f"bold {level_style(level, state)}")
    return text


def short_reason(device: DeviceState) -> str:
    """The reason without the level, which has its own column."""
    return device.reason.removeprefix(f"{device.level}: ")


def level_style(level: str, state: RunState) -> str:
    """One colour a density level, the same everywhere in the table."""
    if level not in state.levels:
        return "dim"
    return LEVEL_STYLES[state.levels.index(level) % len(LEVEL_STYLES)]


def _number(value: float | None, pattern: str) -> str:
    return pattern.format(value) if value else ""


COLUMNS: Final = (
    Column(name="device", cell=lambda device, state: device.device),
    Column(name="board", cell=lambda device, state: device.board, least_width=130),
    Column(
        name="density",
        cell=lambda device, state: Text(
            device.level or "-", style=level_style(device.level, state)
        ),
    ),
    Column(
        name="why",
        cell=lambda device, state: Text(short_reason(device), style="dim"),
        least_width=100,
        stretches=True,
    ),
    Column(
        name="round",
        cell=lambda device, state: "" if device.round_id is None else str(device.round_id),
        is_number=True,
    ),
    Column(name="at", cell=lambda device, state: device.task_level, is_number=True),
    Column(
        name="step ms", cell=lambda device, state: _number(device.step_ms, "{:.2f}"), is_number=True
    ),
    Column(
        name="memory MB",
        cell=lambda device, state: _number(device.trainer_mb + device.agent_mb, "{:.0f}"),
        is_number=True,
    ),
    Column(
        name="up kB",
        cell=lambda device, state: _number(device.traffic.up / 1000, "{:.1f}"),
        is_number=True,
    ),
    Column(
        name="down kB",
        cell=lambda device, state: _number(device.traffic.down / 1000, "{:.1f}"),
        is_number=True,
    ),
    Column(
        name="state",
        cell=lambda device, state: Text(device.activity.value, style=STYLES[device.activity]),
    ),
)
