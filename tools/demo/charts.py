"""The report's charts, as plain SVG: scores per round, bytes per round, bytes per level.

Colours are classes (`c0`, `c1`, ... for the density levels), set by `style.py` for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

GAP: Final = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The plotting area of a chart, in user units, and the data ranges that it shows."""

    left: float
    top: float
    right: float
    bottom: float
    x_min: float
    x_max: float
    y_max: float

    def x(self, value: float) -> float:
        """Horizontal position of a data value."""
        span = self.x_max - self.x_min or 1.0
        return self.left + (value - self.x_min) / span * (self.right - self.left)

    def y(self, value: float) -> float:
        """Vertical position of a data value; the axis starts at 0."""
        return self.bottom - value / self.y_max * (self.bottom - self.top)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: its label, its colour's index, and its points `(round, value)`."""

    label: str
    colour: int
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A column: its round, and its segments `(class, bytes)` from the bottom."""

    round_id: int
    segments: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """Its height."""
        return sum(size for _, size in self.segments)


def score_chart(
    series: Sequence[Series], *, width: float, height: float, is_loss: bool = False
) -> str:
    """Lines from 0 to 100 % (a loss: to its largest), each with its label and its last value."""
    rounds = [point[0] for one in series for point in one.points] or [0, 1]
    highest = max((point[1] for one in series for point in one.points), default=0.0)
    ticks = _ticks(highest or 1.0) if is_loss else [0, 0.25, 0.5, 0.75, 1.0]
    frame = Frame(
        left=44, top=14, right=width - 122, bottom=height - 40, x_min=min(rounds),
        x_max=max(rounds), y_max=max(highest, ticks[-1]) if is_loss else 1.0,
    )  # fmt: skip
    tick_text = _number if is_loss else (lambda tick: f"{100 * tick:.0f} %")
    end_text = _number if is_loss else (lambda last: f"{100 * last:.1f} %")
    parts = [_grid(frame, ticks, tick_text), _round_axis(frame)]
    drawn = [one for one in series if one.points]
    for one in reversed(drawn):
        parts.append(_line(frame, one))
    ends = _spread([frame.y(one.points[-1][1]) for one in drawn], distance=37.0)
    for one, y in zip(drawn, ends, strict=True):
        parts.append(_end_label(frame, one, y, end_text(one.points[-1][1])))
    name = "Loss" if is_loss else "Accuracy"
    return _svg(parts, width, height, f"{name} of the global model after each round")


def traffic_chart(
    stacks: Sequence[Stack], dense: int, *, width: float, height: float, times: str
) -> str:
    """Stacked columns of bytes per round under a dashed line at what dense float32 would take.

    Args:
        stacks: one a round.
        dense: bytes of all devices in one round, dense, both directions.
        width: of the picture.
        height: of the picture.
        times: how much less it is, in words, for the line's label.
    """
    rounds = [one.round_id for one in stacks] or [0, 1]
    top = max([dense, *(one.total for one in stacks)])
    step = (width - 70) / (max(rounds) - min(rounds) + 1)
    frame = Frame(
        left=62 + step / 2, top=30, right=width - 8 - step / 2, bottom=height - 40,
        x_min=min(rounds), x_max=max(rounds), y_max=1.02 * top,
    )  # fmt: skip
    edges = (62.0, width - 8.0)
    parts = [_grid(frame, _ticks(top), megabytes, edges), _round_axis(frame)]
    parts += [_column(frame, one, min(26.0, 0.68 * step)) for one in stacks]
    y = frame.y(dense)
    parts.append(f'<path class="dense" d="M{edges[0]:.1f} {y:.1f}H{edges[1]:.1f}"/>')
    parts.append(_text(edges[0] + 4, y - 8, f"dense float32: {megabytes(dense)} a round", "ink"))
    if times:
        middle = (y + frame.bottom) / 2
        parts.append(_text((edges[0] + edges[1]) / 2, middle, times, "big", "middle"))
    return _svg(parts, width, height, "Bytes of all devices in each round, by density level")


def level_chart(levels: Sequence[tuple[str, int, int]], dense: int, *, width: float) -> str:
    """Horizontal bars: bytes of one device, one way, at each level against dense float32.

    Args:
        levels: `(label, colour, bytes)`.
        dense: bytes of the dense model.
        width: of the picture.
    """
    row, left, right = 44.0, 112.0, width - 150
    parts = []
    rows = [("dense float32", "cd", dense)] + [(name, f"c{c}", size) for name, c, size in levels]
    for index, (name, colour, size) in enumerate(rows):
        y = 8 + index * row
        length = max(2.0, (right - left) * size / dense)
        parts.append(_text(left - 14, y + 19, name, "ink", "end"))
        parts.append(
            f'<rect class="{colour}" x="{left}" y="{y}" width="{length:.1f}" height="28" rx="3"/>'
        )
        share = "" if colour == "cd" else f"  ·  1/{dense / max(1, size):.1f}"
        parts.append(_text(left + length + 10, y + 19, f"{kilobytes(size)}{share}", "ink"))
    return _svg(parts, width, 8 + row * len(rows), "Bytes of one device in one direction")


def kilobytes(size: float) -> str:
    """`81.2 kB`."""
    return f"{size / 1e3:,.1f} kB" if size < 1e5 else f"{size / 1e3:,.0f} kB"


def megabytes(size: float) -> str:
    """`1.3 MB`, or kB below 100 kB."""
    if size == 0:
        return "0"
    if size < 1e5:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.1f} MB".replace(".0 ", " ") if size < 1e8 else f"{size / 1e6:,.0f} MB"


def _grid(
    frame: Frame,
    ticks: Sequence[float],
    label: object,
    edges: tuple[float, float] | None = None,
) -> str:
    assert callable(label)  # noqa: S101
    left, right = edges or (frame.left, frame.right)
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        kind = "axis" if tick == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(_text(left - 8, y + 4, label(tick), "mute", "end"))
    return "".join(parts)


def _round_axis(frame: Frame) -> str:
    first, last = int(frame.x_min), int(frame.x_max)
    step = max(1, math.ceil((last - first) / 6 / 5) * 5 if last - first > 8 else 1)
    ticks = [one for one in range(first, last + 1) if one == first or one % step == 0]
    if len(ticks) > 1 and ticks[1] - ticks[0] < step / 2:
        ticks.pop(1)
    parts = [_text(frame.x(one), frame.bottom + 20, str(one), "mute", "middle") for one in ticks]
    middle = (frame.left + frame.right) / 2
    return "".join(parts) + _text(middle, frame.bottom + 37, "round", "mute", "middle")


def _line(frame: Frame, series: Series) -> str:
    points = [(frame.x(x), frame.y(y)) for x, y in series.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<path class="line s{series.colour}" d="M{path}"/>'
        f'<circle class="halo" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
        f'<circle class="c{series.colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    )


def _end_label(frame: Frame, series: Series, y: float, text: str) -> str:
    x, last = frame.right + GAP, series.points[-1][1]
    return (
        f'<path class="lead s{series.colour}" d="M{frame.right + 8:.1f} '
        f'{frame.y(last):.1f}L{x - 3:.1f} {y:.1f}"/>'
        f'<rect class="c{series.colour}" x="{x:.1f}" y="{y - 11:.1f}" width="4" height="29" '
        'rx="2"/>'
        + _text(x + 11, y + 1, text, "strong")
        + _text(x + 11, y + 16, series.label, "mute")
    )


def _column(frame: Frame, stack: Stack, width: float) -> str:
    parts, below = [], 0
    for colour, size in stack.segments:
        top, bottom = frame.y(below + size), frame.y(below)
        parts.append(
            f'<rect class="{colour}" x="{frame.x(stack.round_id) - width / 2:.1f}" y="{top:.1f}" '
            f'width="{width:.1f}" height="{max(0.0, bottom - top):.1f}"/>'
        )
        below += size
    title = f"<title>round {stack.round_id}: {megabytes(stack.total)}</title>"
    return f"<g>{title}{''.join(parts)}</g>"


def _spread(positions: Sequence[float], distance: float) -> list[float]:
    """Positions moved apart to at least `distance`, around where they were, in their order."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed: list[float] = []
    for index in order:
        lowest = placed[-1] + distance if placed else -math.inf
        placed.append(max(positions[index], lowest))
    if placed:
        shift = sum(placed) / len(placed) - sum(positions) / len(positions)
        placed = [max(18.0 + distance * rank, y - shift) for rank, y in enumerate(placed)]
    result = [0.0] * len(positions)
    for rank, index in enumerate(order):
        result[index] = placed[rank]
    return result


def _ticks(top: float) -> list[float]:
    """Four or five round values from 0 up to `top`."""
    rough = top / 4 if top > 0 else 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [step * index for index in range(int(top / step) + 1)]


def _number(value: float) -> str:
    return f"{value:.3g}"


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{end}>{escape(text)}</text>'


def _svg(parts: Sequence[str], width: float, height: float, title: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def legend(items: Mapping[str, str]) -> str:
    """Swatches: class to label."""
    keys = "".join(
        f'<span class="key"><i class="b{kind}"></i>{escape(label)}</span>'
        for kind, label in items.items()
    )
    return f'<p class="legend">{keys}</p>'
