"""Where things are in the timeline's picture, what they look like, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 1400.0
RIGHT: Final = 236.0
TOP: Final = 44.0
FOOT: Final = 26.0

STYLE: Final = """
.tl .round{fill:var(--grid);fill-opacity:.55} .tl .edge{stroke:var(--rule)}
.tl .row{stroke:var(--rule);stroke-opacity:.7}
.tl .away{fill:var(--mute);fill-opacity:.22} .tl .cut{fill:url(#cut)}
.tl .hot{fill:#d9542b} .tl .disk{fill:#7d5a2e}
.tl .task.broken{fill-opacity:.4} .tl .task.none{fill-opacity:.25}
.tl .task{stroke:var(--card);stroke-width:1} .tl .on{fill:var(--chip);font-weight:600}
.tl .on.l2{fill:#2b1e07} .tl .sign{fill:#c02f2f;font-weight:800} .tl .trouble{stroke:#c02f2f}
.tl .hatch{stroke:#c02f2f;stroke-width:2;stroke-opacity:.75}
.tl g.r:hover .name{font-weight:700}
@media (prefers-color-scheme:dark){.tl .sign{fill:#ff7b72} .tl .hatch,.tl .trouble{stroke:#ff7b72}
.tl .hot{fill:#ff8a5c} .tl .disk{fill:#c79a5d}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where things are: a height for each row that suits their number, and the scale of time."""

    rows: int
    left: float
    end_s: float

    @property
    def is_roomy(self) -> bool:
        """Whether a row has two lines."""
        return self.rows <= 12

    @property
    def row(self) -> float:
        """Height of a row."""
        return 36.0 if self.is_roomy else 25.0 if self.rows <= 25 else 17.0

    @property
    def font(self) -> float:
        """Size of the text in a row."""
        return 12.5 if self.is_roomy else 11.5 if self.rows <= 25 else 10.5

    @property
    def right(self) -> float:
        """Where time ends."""
        return WIDTH - RIGHT

    @property
    def bottom(self) -> float:
        """Below the last row."""
        return TOP + self.rows * self.row

    @property
    def height(self) -> float:
        """Of the picture."""
        return self.bottom + FOOT

    def x(self, time_s: float) -> float:
        """Of a moment."""
        return self.left + (self.right - self.left) * time_s / (self.end_s or 1.0)

    def y(self, index: int) -> float:
        """Top of a row."""
        return TOP + index * self.row


def rectangle(x: float, y: float, width: float, height: float, kind: str, title: str) -> str:
    """A rectangle that says what it is when it is pointed at."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" '
        f'height="{height:.1f}"><title>{escape(title)}</title></rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text_at(x: float, y: float, text: str, kind: str, size: float, anchor: str = "start") -> str:
    """Text of a size, which begins, ends or has its middle at `x`."""
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    # A style of its own: classes of other charts set sizes, too.
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" style="font-size:{size:g}px"{end} '
        f'pointer-events="none">{escape(text)}</text>'
    )
