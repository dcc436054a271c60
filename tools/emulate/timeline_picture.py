"""The timeline as SVG: devices are rows, rounds are columns, time goes to the right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from typing import Final

from tools.demo.charts import kilobytes
from tools.emulate.timeline import Band, End, Mark, Row, Task, Timeline
from tools.emulate.timeline_grid import TOP, WIDTH, Grid, line, rectangle, text_at

MOST_LEFT: Final = 300.0
CHARACTER: Final = 0.56  # of the font's size, on average
TICKS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
MOST_TICKS: Final = 14
SIGNS: Final = {
    Mark.KILLED: "\u2715",
    Mark.LEFT: "\u25c1",
    Mark.CRASHED: "!",
    Mark.MEMORY: "M",
    Mark.LIMITS: "L",
    Mark.FAILED: "\u2212",
}
SIGN_NAMES: Final = {
    Mark.KILLED: "killed, as by a power cut",
    Mark.LEFT: "left",
    Mark.CRASHED: "its client ended by itself",
    Mark.MEMORY: "killed at the memory limit",
    Mark.LIMITS: "lost its control group",
    Mark.FAILED: "gave a task up",
}
BAND_NAMES: Final = {
    Band.AWAY: "offline",
    Band.CUT: "link cut",
    Band.HOT: "hot",
    Band.DISK: "disk full",
}


def timeline_svg(timeline: Timeline) -> str:
    """The picture; its classes are styled by `STYLE` and the report's palette."""
    rows = list(timeline.rows.values())
    longest = max((len(row.device) for row in rows), default=0)
    board = max((len(row.board) for row in rows), default=0)
    rough = Grid(rows=len(rows), left=0.0, end_s=timeline.end_s)
    characters = max(longest + 5, board if rough.is_roomy else 0)
    left = min(24 + rough.font * CHARACTER * characters, MOST_LEFT)
    grid = replace(rough, left=left)
    parts = [
        *_defs(),
        *_columns(timeline, grid),
        *_axis(grid),
        *(part for index, row in enumerate(rows) for part in _row(row, index, grid, timeline)),
        *_troubles(timeline, grid),
        *_heads(grid),
    ]
    title = f"{len(rows)} devices, {len(timeline.columns)} rounds, {timeline.end_s:.0f} s"
    return (
        f'<svg class="chart tl" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} '
        f'{grid.height:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _defs() -> Iterator[str]:
    yield (
        '<defs><pattern id="cut" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><line class="hatch" x1="0" y1="0" x2="0" y2="6"/>'
        "</pattern></defs>"
    )


def _columns(timeline: Timeline, grid: Grid) -> Iterator[str]:
    free_x = 0.0
    for index, column in enumerate(timeline.columns):
        start, end = grid.x(column.start_s), grid.x(column.end_s or timeline.end_s)
        kind = "round" if index % 2 == 0 else "none"
        name = str(column.round_id) if column.stage == "train" else column.stage
        title = f"round {column.round_id} ({column.stage}), {_span(column.start_s, column.end_s)}"
        if kind == "round":
            yield rectangle(start, TOP - 22, end - start, grid.bottom - TOP + 22, kind, title)
        width = 7.0 * len(name) + 6
        if start >= free_x and end - start > 5:
            yield text_at((start + end) / 2, TOP - 8, name, "mute", 12, "middle")
            free_x = (start + end) / 2 + width / 2
        yield line(start, TOP - 22, start, grid.bottom, "edge")


def _axis(grid: Grid) -> Iterator[str]:
    step = next((one for one in TICKS if grid.end_s / one <= MOST_TICKS), 86400 * 7)
    for number in range(math.floor(grid.end_s / step) + 1):
        x = grid.x(number * step)
        yield line(x, grid.bottom, x, grid.bottom + 5, "axis")
        yield text_at(x, grid.bottom + 18, _clock(number * step), "mute", 11, "middle")


def _row(row: Row, index: int, grid: Grid, timeline: Timeline) -> Iterator[str]:
    y, tall = grid.y(index), grid.row
    yield '<g class="r">'
    yield line(4, y, WIDTH - 4, y, "row")
    yield from _name(row, y, grid, timeline)
    for spell in row.spells:
        start, end = grid.x(spell.start_s), grid.x(_end(spell.end_s, timeline))
        title = f"{row.device}: {BAND_NAMES[spell.band]}, {_span(spell.start_s, spell.end_s)}"
        if spell.band is Band.AWAY:
            yield rectangle(start, y + 1, end - start, tall - 2, "away", title)
    for task in row.tasks:
        yield _task(task, row, y, grid, timeline)
    for spell in row.spells:
        start, end = grid.x(spell.start_s), grid.x(_end(spell.end_s, timeline))
        title = f"{row.device}: {BAND_NAMES[spell.band]}, {_span(spell.start_s, spell.end_s)}"
        if spell.band is Band.CUT:
            yield rectangle(start, y + 1, max(2.0, end - start), tall - 2, "cut", title)
        elif spell.band in (Band.HOT, Band.DISK):
            top = y + tall - 5 if spell.band is Band.HOT else y + 1
            yield rectangle(start, top, max(2.0, end - start), 4, spell.band.value, title)
    for task in row.tasks:
        yield from _label(task, y, grid, timeline)
    for time_s, mark, text in row.marks:
        middle = y + tall / 2 + 5
        title = f"{row.device}: {text} ({_clock(time_s)})"
        yield f"<g><title>{escape(title)}</title>"
        yield text_at(grid.x(time_s), middle, SIGNS[mark], "sign", 15, "middle") + "</g>"
    yield from _totals(row, y, grid)
    yield "</g>"


def _name(row: Row, y: float, grid: Grid, timeline: Timeline) -> Iterator[str]:
    base = y + (15 if grid.is_roomy else grid.row / 2 + 4)
    level = f"c{timeline.levels.index(row.level) % 4}" if row.level in timeline.levels else "cd"
    yield f'<circle class="{level}" cx="10" cy="{base - 4:.1f}" r="4"/>'
    chosen = row.level or "none"
    yield (
        f'<text class="name" x="20" y="{base:.1f}" font-size="{grid.font:g}">'
        f"<title>{escape(f'{row.device}, {row.board}: its density is {chosen}')}</title>"
        f"{escape(row.device)}</text>"
    )
    yield text_at(grid.left - 8, base, row.level, "mute", grid.font - 1, "end")
    if grid.is_roomy:
        yield text_at(20, y + 29, row.board, "mute", 10.5)


def _task(task: Task, row: Row, y: float, grid: Grid, timeline: Timeline) -> str:
    colour = timeline.levels.index(task.level) % 4 if task.level in timeline.levels else 3
    start, end = grid.x(task.start_s), grid.x(_end(task.end_s, timeline))
    how = task.end.value if task.end else "unfinished"
    kind = {End.DELIVERED: "", End.BROKEN: " broken", End.FAILED: " broken"}.get(
        task.end or End.LATE, " none"
    )
    title = (
        f"{row.device}, round {task.round_id}: density {task.level}, {how}, "
        f"{_span(task.start_s, task.end_s)}"
    )
    title += f"; {task.train_s:.1f} s of it training" if task.train_s else ""
    title += f"; {kilobytes(task.bytes)} both ways" if task.bytes else ""
    inset = 5.0 if grid.is_roomy else 3.0
    tall, width = grid.row - 2 * inset, max(1.5, end - start)
    return rectangle(start, y + inset, width, tall, f"task c{colour}{kind}", title)


def _label(task: Task, y: float, grid: Grid, timeline: Timeline) -> Iterator[str]:
    """Density and bytes of a task, or the density alone, as far as there is room."""
    if task.end is not End.DELIVERED:
        return
    colour = timeline.levels.index(task.level) % 4 if task.level in timeline.levels else 3
    start, end = grid.x(task.start_s), grid.x(_end(task.end_s, timeline))
    size = min(grid.font - 1, 11.5)
    for text in (f"{task.level} \u00b7 {kilobytes(task.bytes)}", task.level):
        if len(text) * size * CHARACTER + 8 < end - start:
            base = y + grid.row / 2 + size * 0.36
            yield text_at((start + end) / 2, base, text, f"on l{colour}", size, "middle")
            return


def _totals(row: Row, y: float, grid: Grid) -> Iterator[str]:
    base = y + grid.row / 2 + 4
    cells = (
        f"{row.delivered}/{len({task.round_id for task in row.tasks})}",
        kilobytes(row.up_bytes), kilobytes(row.down_bytes), str(row.mishaps or ""),
    )  # fmt: skip
    for x, cell in zip(_heads_x(grid), cells, strict=True):
        yield text_at(x, base, cell, "ink", grid.font - 1, "end")


def _heads(grid: Grid) -> Iterator[str]:
    names = ("delivered", "up", "down", "mishaps")
    for x, name in zip(_heads_x(grid), names, strict=True):
        yield text_at(x, TOP - 8, name, "mute", 11, "end")
    yield text_at(20, TOP - 8, "device", "mute", 11)
    if grid.is_roomy:
        yield text_at(grid.left - 8, TOP - 8, "density", "mute", 11, "end")


def _heads_x(grid: Grid) -> tuple[float, float, float, float]:
    return grid.right + 62, grid.right + 122, grid.right + 180, grid.right + 230


def _troubles(timeline: Timeline, grid: Grid) -> Iterator[str]:
    for time_s, text in timeline.troubles:
        x = grid.x(time_s)
        yield (
            f'<line class="trouble" x1="{x:.1f}" y1="{TOP - 22:g}" x2="{x:.1f}" '
            f'y2="{grid.bottom:g}" stroke-dasharray="3 3"><title>{escape(text)}</title></line>'
        )


def _end(end_s: float | None, timeline: Timeline) -> float:
    return timeline.end_s if end_s is None else end_s


def _span(start_s: float, end_s: float | None) -> str:
    if end_s is None:
        return f"from {_clock(start_s)} to the end"
    return f"{_clock(start_s)} to {_clock(end_s)}, {end_s - start_s:.1f} s"


def _clock(time_s: float) -> str:
    """`35 s`, `2:05`, `1:02:05`."""
    if time_s < 60:
        return f"{time_s:.0f} s"
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
