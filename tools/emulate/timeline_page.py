"""`timeline.html`, made from `events.jsonl` and `summary.json` alone; it needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from tools.demo.charts import legend
from tools.demo.events import EventTail
from tools.demo.style import CHART, PAGE, PALETTE
from tools.emulate.limits_table import cells
from tools.emulate.timeline import Band, Mark, Timeline
from tools.emulate.timeline_grid import STYLE
from tools.emulate.timeline_picture import (
    BAND_NAMES,
    SIGN_NAMES,
    SIGNS,
    timeline_svg,
)

FILE: Final = "timeline.html"
WIDE: Final = """
main{max-width:1500px} .signs span{margin-right:18px} .signs b{color:#c02f2f;margin-right:5px}
.ba{background:var(--mute);opacity:.4} .bh{background:#d9542b} .bd{background:#7d5a2e}
.bx{background:repeating-linear-gradient(45deg,#c02f2f 0 2px,transparent 2px 5px)}
.picture{overflow-x:auto} .picture svg{min-width:900px}
.broken-off{border-left:4px solid #c02f2f;padding-left:12px;white-space:pre-wrap}
"""
SWATCHES: Final = {Band.AWAY: "a", Band.CUT: "x", Band.HOT: "h", Band.DISK: "d"}


def write_timeline(output: Path) -> Path:
    """Write the page beside the run's files and return its path."""
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    events = list(EventTail(output / "events.jsonl").read())
    path = output / FILE
    path.write_text(timeline_html(summary, events), encoding="utf-8")
    return path


def timeline_html(summary: Mapping[str, Any], events: list[dict[str, Any]]) -> str:
    """The self-contained page."""
    emulation = summary["emulation"]
    boards = {one["id"]: one["board"] for one in emulation["devices"]}
    timeline = Timeline(boards, emulation["time_scale"]).fold(events)
    title = f"{emulation['fleet']}, {emulation['scenario'] or 'no scenario'}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>fedsparse: {escape(title)}</title>
<style>{PALETTE}{CHART}{PAGE}{WIDE}{STYLE}</style></head><body><main>
<p class="eyebrow">fedsparse emulate · {escape(title)} · seed {emulation["seed"]}</p>
<h1>{escape(_headline(summary, timeline))}</h1>
<p class="lede">Real clients under the limits of their boards, on one machine. Times are the
boards'; their seconds in one of the machine's: {escape(emulation["time_scale_why"])}.</p>
{_ending(emulation)}
<section class="card"><h2>Who trained what, when</h2>
<p class="sub">A bar is a task, from its sending to the receipt, in the colour of its density;
rounds are the columns. Point at anything for its figures.</p>
<div class="picture">{timeline_svg(timeline)}</div>
{legend(_legend(timeline))}{_signs(timeline)}</section>
<div class="cards"><section class="card wide"><h2>What held the boards</h2>
<p class="sub">The mechanism of each limit, and what the figure behind it is based on.</p>
{_limits(emulation["devices"])}</section></div>
{_missed(emulation["did_not_happen"])}
</main></body></html>
"""


def _headline(summary: Mapping[str, Any], timeline: Timeline) -> str:
    mishaps = sum(row.mishaps for row in timeline.rows.values())
    rounds = summary["rounds"]
    return (
        f"{len(timeline.rows)} device{'s' * (len(timeline.rows) != 1)}, {rounds} round"
        f"{'s' * (rounds != 1)}, {mishaps} mishap{'s' * (mishaps != 1)}"
    )


def _ending(emulation: Mapping[str, Any]) -> str:
    if emulation["finished"]:
        return ""
    return f'<p class="broken-off">The run broke off: {escape(emulation["ended_because"])}</p>'


def _legend(timeline: Timeline) -> dict[str, str]:
    keys = {f"c{index % 4}": f"density {level}" for index, level in enumerate(timeline.levels)}
    bands = {spell.band for row in timeline.rows.values() for spell in row.spells}
    return keys | {SWATCHES[band]: BAND_NAMES[band] for band in Band if band in bands}


def _signs(timeline: Timeline) -> str:
    seen = {mark for row in timeline.rows.values() for _, mark, _ in row.marks}
    if not seen:
        return ""
    texts = (f"<span><b>{SIGNS[one]}</b>{SIGN_NAMES[one]}</span>" for one in Mark if one in seen)
    return f'<p class="legend signs">{"".join(texts)}</p>'


def _limits(devices: list[dict[str, Any]]) -> str:
    heads = ("Devices", "Board", "Memory", "Processor", "Link", "Store")
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in devices:
        rows.setdefault((one["board"], *cells(one), one["store"]), []).append(one["id"])
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in (_names(names), *row))}</tr>"
        for row, names in rows.items()
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _names(names: list[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]}, ..., {names[-1]} ({len(names)})"


def _missed(missed: list[dict[str, Any]]) -> str:
    if not missed:
        return ""
    lines = "".join(_missed_lines(missed))
    return f"<h2>What did not happen</h2><ul>{lines}</ul>"


def _missed_lines(missed: list[dict[str, Any]]) -> Iterator[str]:
    for one in missed:
        when = f"round {one['round']}" if one["round"] is not None else f"{one['at_s']:g} s"
        text = f"{one['kind']} of {one['device']} ({when}): {one['why']}"
        yield f"<li>{escape(text)}</li>"
